"""`mllmrisk show`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mllmrisk.records import GROUP, Estimate
from mllmrisk.run import Shown, load_run


@click.command(name="show")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("cell", required=False)
@click.option("--most", type=click.IntRange(min=1), default=20, show_default=True, help="Images printed.")
@click.option("--lowest", is_flag=True, help="Lowest scores first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: every image.")
def command(run: Path, cell: str | None, most: int, lowest: bool, as_json: bool) -> int:
    """Lead from a figure (CELL) of RUN back to its images; without CELL, list the figures.

    A cell is the short code that stands beside each figure in the report and in estimates.json.
    """
    opened = load_run(run)
    if cell is None:
        for row in opened.estimates():
            click.echo(json.dumps(row.row()) if as_json else f"{row.cell}  {line(row)}")
        return 0
    estimate, images = opened.show(cell)
    if lowest:
        images = [i for i in images if i.score.value is not None][::-1] + [i for i in images if i.score.value is None]
    if as_json:
        click.echo(json.dumps({"estimate": estimate.row(), "images": [_told(i) for i in images]}))
        return 0
    click.echo(line(estimate))
    click.echo(f"how: {estimate.method}")
    if estimate.confounded:
        click.echo(f"confounded: a probe that sees only the {', '.join(estimate.confounded_by)} does as well")
        for probe, why in estimate.explained.items():
            click.echo(f"  explained, {probe}: {why}")
    click.echo(f"{len(images)} images, by {'lowest' if lowest else 'highest'} score:")
    for image in images[:most]:
        score = f"{image.score.value:+9.3f}" if image.score.value is not None else f"({image.score.reason})"
        sample = image.sample
        caption = "" if image.caption is None else f"  {image.caption!r}"
        click.echo(f"{score:>9}  {sample.label:4}  {sample.paradigm:9}  {sample.path}  {image.path or '-'}{caption}")
    if len(images) > most:
        click.echo(f"... and {len(images) - most} more (--most N, or --json for all)")
    return 0


def line(row: Estimate) -> str:
    """A figure in one line: its group, value, interval and n."""
    group = " ".join(f"{name}={getattr(row, name)}" for name in GROUP if getattr(row, name) is not None)
    at = f" at {row.at:.0%} false alarms" if row.at is not None else ""
    if row.value is None:
        reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(row.n_unscored.items()))
        figure = f"no value ({reasons})"
    elif row.low is None or row.high is None:
        figure = f"{row.value:.3f}"
    else:
        figure = f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"
    mark = " CONFOUNDED" if row.confounded else ""
    return f"{row.experiment} {row.metric}{at} {group}: {figure} · {row.n_images} images{mark}"


def _told(image: Shown) -> dict[str, object]:
    return {
        "sample": image.sample.id,
        "label": image.sample.label,
        "paradigm": image.sample.paradigm,
        "generator": image.sample.generator,
        "source": image.sample.source,
        "manifest_path": image.sample.path,
        "sha256": image.sample.image,
        "path": None if image.path is None else str(image.path),
        "score": image.score.value,
        "reason": image.score.reason,
        "caption": image.caption,
    }
