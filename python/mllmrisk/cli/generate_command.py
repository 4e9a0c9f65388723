"""`mllmrisk generate`."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import click

from mllmrisk.cli.evaluate_command import planned, requested, run_options
from mllmrisk.cli.executor import stage_options
from mllmrisk.cli.main import FAILED_UNITS
from mllmrisk.cli.progress import Progress
from mllmrisk.plan import Request


@click.command(name="generate")
@click.option(
    "--prompts",
    multiple=True,
    metavar="SET|FILE",
    help="A prompt set in place of what the suite asks for (repeatable).",
)
@click.option("--find-batch", is_flag=True, help="Measure which batch gives most images per second, and stop.")
@run_options
@stage_options
def command(find_batch: bool, dry_run: bool, as_json: bool, **options: Any) -> int:
    """Make the images of a run and nothing else.

    \b
    mllmrisk generate --suite unsafe --out runs/mine
    mllmrisk generate --generator janus-pro --prompts my-prompts.toml --samples 4 --out runs/mine

    The same call on the same folder goes on where it stood; `evaluate` with the same options judges what is there.
    Exit code 3: done, but some images could not be made.
    """  # noqa: D301 (click's \b)
    request = requested(options)
    if dry_run:
        return planned(request, as_json)
    if find_batch:
        return _find_batches(request, as_json)
    from mllmrisk import runner
    from mllmrisk.store import Store

    out = runner.generate(request, Progress())
    with Store.load(out) as store:
        counted = Counter((s.generator, s.outcome.value) for s in store.samples() if s.generator is not None)
        failures, speeds, costs = store.failures(), store.speeds(), store.costs()
    if as_json:
        rows = [{"generator": name, "outcome": outcome, "n": n} for (name, outcome), n in sorted(counted.items())]
        click.echo(json.dumps({"run": str(out), "outcomes": rows, "costs": costs, "failures": failures}))
    else:
        for (name, outcome), n in sorted(counted.items()):
            click.echo(f"{name}: {n:,} {outcome}")
        for stage, told in speeds.items():
            click.echo(f"{stage}: {told}")
        click.echo(f"run: {out}")
    for unit, reason in failures.items():
        click.echo(f"mllmrisk: {unit}: {reason}", err=True)
    failed = failures or any(outcome == "failed" for _, outcome in counted)
    return FAILED_UNITS if failed else 0


def _find_batches(request: Request, as_json: bool) -> int:
    from mllmrisk import runner

    for name, found in runner.find_batches(request):
        if as_json:
            trials = [trial._asdict() for trial in found.trials]
            click.echo(json.dumps({"generator": name, "batch": found.batch, "trials": trials}))
            continue
        for trial in found.trials:
            told = "does not fit" if trial.per_second is None else f"{trial.per_second:.3g} images per second"
            click.echo(f"{name}: batch {trial.batch}: {told}")
        click.echo(f"{name}: batch = {found.batch}")
    return 0
