"""`mllmrisk judge`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mllmrisk.cli.executor import stage_options
from mllmrisk.cli.progress import Progress


@click.command(name="judge")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--judge", "name", required=True, metavar="NAME|FILE", help="A judge (`mllmrisk list judges`) or a TOML.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:i]", help="Where the model runs.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads [default: all cores].")
@stage_options
def command(run: Path, name: str, device: str, threads: int | None, **where: Any) -> int:
    """Score the images of RUN with a judge; images that it has scored before are left alone."""
    from mllmrisk import executors
    from mllmrisk.experiments import judging
    from mllmrisk.experiments.study import Study
    from mllmrisk.store import Store

    opened = executors.opened(executors.Chosen(**where), device=device, threads=threads)
    with Store.load(run) as store, opened as executor:
        study = Study(
            store, seed=0, resamples=0, threads=threads, device=device, progress=Progress(), executor=executor
        )
        (found,) = judging.panel(study, [name])
        for category in found.categories:
            flags = found.flags(category)
            flagged = int(sum(flags.flagged.values()))
            click.echo(
                f"{found.name} {category}: {flagged} of {len(flags.flagged)} flagged, {len(flags.reasons)} unscored"
            )
    return 0
