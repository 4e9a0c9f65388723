"""`mllmrisk generate`."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import click

from mllmrisk.cli.evaluate_command import planned, requested, run_options, stage_options
from mllmrisk.cli.main import FAILED_UNITS
from mllmrisk.cli.progress import Progress


@click.command(name="generate")
@click.option(
    "--prompts",
    multiple=True,
    metavar="SET|FILE",
    help="A prompt set in place of what the suite asks for (repeatable).",
)
@run_options
@stage_options
def command(dry_run: bool, as_json: bool, **options: Any) -> int:
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
    from mllmrisk import runner
    from mllmrisk.store import Store

    out = runner.generate(request, Progress())
    with Store.load(out) as store:
        counted = Counter((s.generator, s.outcome.value) for s in store.samples() if s.generator is not None)
        failures = store.failures()
    if as_json:
        rows = [{"generator": name, "outcome": outcome, "n": n} for (name, outcome), n in sorted(counted.items())]
        click.echo(json.dumps({"run": str(out), "outcomes": rows, "failures": failures}))
    else:
        for (name, outcome), n in sorted(counted.items()):
            click.echo(f"{name}: {n:,} {outcome}")
        click.echo(f"run: {out}")
    for unit, reason in failures.items():
        click.echo(f"mllmrisk: {unit}: {reason}", err=True)
    failed = failures or any(outcome == "failed" for _, outcome in counted)
    return FAILED_UNITS if failed else 0
