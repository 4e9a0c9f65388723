"""`mllmrisk train`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mllmrisk.cli.main import FAILED_UNITS
from mllmrisk.cli.output import check_free, check_suffix
from mllmrisk.cli.progress import Progress


@click.command(name="train")
@click.option(
    "--images", required=True, type=click.Path(path_type=Path), metavar="MANIFEST|DIR", help="Labelled images."
)
@click.option("--family", default="forensic", show_default=True, help="Kind of detector.")
@click.option(
    "--view",
    default="recompressed",
    show_default=True,
    metavar="native|matched|recompressed",
    help="How images are looked at; native learns containers as well.",
)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), metavar="DETECTOR.onnx", help="The file.")
@click.option("--seed", type=int, default=0, show_default=True, help="Inner splits and trees.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the core [default: all cores].")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for programs.")
def command(
    images: Path, family: str, view: str, out: Path, seed: int, threads: int | None, force: bool, as_json: bool
) -> int:
    """Train a detector on labelled images and write it as an ONNX file.

    \b
    mllmrisk train --images manifest.csv -o mine.onnx
    mllmrisk detect --detector mine.onnx --images others/
    """  # noqa: D301 (click's \b)
    check_suffix(out, (".onnx",))
    check_free(out, force)
    from mllmrisk import training

    made = training.train(images, out, family=family, view=view, seed=seed, threads=threads, progress=Progress())
    if as_json:
        click.echo(json.dumps({**made._asdict(), "path": str(made.path)}))
    else:
        click.echo(f"{made.path}: trained on {made.real} photographs and {made.fake} generated images ({view} view)")
        click.echo(
            f"AUC {made.inner_auc:.3f} inside the training images, split by {made.groups}; new sources may differ"
        )
        for rate, value in made.thresholds.items():
            text = f"logit {value:.3f}" if isinstance(value, float) else f"none ({value})"
            click.echo(f"threshold at {float(rate):.0%} false alarms: {text}")
    for reason, count in made.unreadable.items():
        click.echo(f"mllmrisk: {count} image(s) left out: {reason}", err=True)
    return FAILED_UNITS if made.unreadable else 0
