"""`mllmrisk evaluate`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mllmrisk import budget, executors, plan
from mllmrisk.cli.executor import stage_options
from mllmrisk.cli.main import FAILED_UNITS
from mllmrisk.cli.progress import Progress
from mllmrisk.plan import Request


def run_options(command: Callable[..., int]) -> Callable[..., int]:
    """What `evaluate` and `generate` both take: together they say which run is meant."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS = (
    click.option("--suite", default="full", show_default=True, metavar="NAME|FILE", help="What is measured."),
    click.option("--profile", default="embedded", show_default=True, metavar="NAME|FILE", help="Who is measured."),
    click.option(
        "--images",
        type=click.Path(path_type=Path),
        metavar="MANIFEST|DIR",
        help="Images that are given [default: the profile's generators make them].",
    ),
    click.option(
        "--generator",
        "generators",
        multiple=True,
        metavar="NAME|FILE",
        help="A generator in place of the profile's (repeatable).",
    ),
    click.option("--detector", "detectors", multiple=True, metavar="FILE", help="A further detector (repeatable)."),
    click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Run folder; an existing one goes on."),
    click.option(
        "--limit", type=click.IntRange(min=1), help="At most so many images of each source, prompts of each set."
    ),
    click.option("--samples", type=click.IntRange(min=1), help="Images per prompt, where a suite asks for several."),
    click.option("--seed", type=int, default=0, show_default=True, help="Images, splits, resamples, matched pairs."),
    click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:i]", help="Where models run."),
    click.option("--threads", type=click.IntRange(min=1), help="Threads of the core [default: all cores]."),
    click.option("--trace", is_flag=True, help="Write where the time went to trace.json in the run folder (Perfetto)."),
    click.option("--dry-run", is_flag=True, help="Say what would be done, and stop."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object for programs."),
)


def requested(options: dict[str, Any]) -> Request:
    """The request that the options of a call make; torch reads how many threads it may have when it is imported."""
    if options["threads"] is not None:
        os.environ["OMP_NUM_THREADS"] = str(options["threads"])
    where = executors.Chosen(**{name: options.pop(name) for name in executors.Chosen._fields})
    return Request(where=where, **{key: value for key, value in options.items() if key not in {"dry_run", "as_json"}})


def planned(request: Request, as_json: bool) -> int:
    """Prints the plan, for `--dry-run`."""
    asked = plan.plan(request)
    click.echo(json.dumps(budget.outline(asked)) if as_json else "\n".join(budget.describe(asked)))
    return 0


@click.command(name="evaluate")
@run_options
@stage_options
def command(dry_run: bool, as_json: bool, **options: Any) -> int:
    """Run a suite: images, scores, estimates with intervals, a report.

    \b
    mllmrisk evaluate --suite full
    mllmrisk evaluate --suite full --profile paper --dry-run
    mllmrisk evaluate --suite fake --images manifest.csv --out runs/mine

    The same call on the same folder goes on where it stood. Exit code 3: done, but some images could not be used;
    they are listed in the report.
    """  # noqa: D301 (click's \b)
    request = requested(options)
    if dry_run:
        return planned(request, as_json)
    from mllmrisk import runner

    run = runner.evaluate(request, Progress())
    failures = run.failures
    report = run.path / "report.html"
    if as_json:
        told = {"run": str(run.path), "report": str(report), "failures": failures}
        click.echo(json.dumps(told))
    else:
        from mllmrisk.report import answer

        click.echo(answer(run.path))
        click.echo(f"\nreport: {report}")
    if failures:
        click.echo(
            f"mllmrisk: {len(failures)} unit(s) failed (images, generators); the report lists them",
            err=True,
        )
    return FAILED_UNITS if failures else 0
