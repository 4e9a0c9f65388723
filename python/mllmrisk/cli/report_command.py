"""`mllmrisk report`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--thumbnails/--no-thumbnails", default=True, help="Show small pictures of images.")
def command(run: Path, thumbnails: bool) -> int:
    """Write the report of RUN again, from its estimates."""
    from mllmrisk import report

    for path in report.render(run, thumbnails=thumbnails):
        click.echo(path)
    return 0
