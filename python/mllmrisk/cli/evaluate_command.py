"""`mllmrisk evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mllmrisk.cli.main import FAILED_UNITS
from mllmrisk.cli.progress import Progress


@click.command(name="evaluate")
@click.option("--suite", default="full", show_default=True, metavar="NAME|FILE", help="What is measured.")
@click.option("--profile", default="embedded", show_default=True, metavar="NAME|FILE", help="Who is measured.")
@click.option("--images", type=click.Path(path_type=Path), metavar="MANIFEST|DIR", help="Images that are given.")
@click.option("--detector", "detectors", multiple=True, metavar="FILE", help="A further detector (repeatable).")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Run folder; an existing one goes on.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many images of each source.")
@click.option("--samples", type=click.IntRange(min=1), help="Images per prompt, where a suite generates.")
@click.option("--seed", type=int, default=0, show_default=True, help="Splits, resamples, matched pairs.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:i]", help="Where models run.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the core [default: all cores].")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for programs.")
@click.pass_context
def command(
    ctx: click.Context,
    suite: str,
    profile: str,
    images: Path | None,
    detectors: tuple[str, ...],
    out: Path | None,
    limit: int | None,
    samples: int | None,
    seed: int,
    device: str,
    threads: int | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Run a suite: scores, estimates with intervals, a report.

    \b
    mllmrisk evaluate --suite fake --images manifest.csv --out runs/mine

    The same call on the same folder goes on where it stood. Exit code 3: done, but some images could not be used;
    they are listed in the report.
    """  # noqa: D301 (click's \b)
    from mllmrisk import runner

    request = runner.Request(suite, profile, images, out, limit, samples, seed, device, threads, detectors)
    if dry_run:
        asked = runner.plan(request)
        click.echo(json.dumps(runner.outline(asked)) if as_json else "\n".join(runner.describe(asked)))
        return 0
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
        click.echo(f"mllmrisk: {len(failures)} image(s) could not be used; the report lists them", err=True)
    return FAILED_UNITS if failures else 0
