"""`mllmrisk export-detector`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mllmrisk.errors import UsageError

if TYPE_CHECKING:
    from mllmrisk.detectors.export import Exported

#: Stands for any image classifier of transformers.
_ANY = "transformers"


@click.command(name="export-detector")
@click.argument("architecture")
@click.option(
    "--weights",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help="The author's file (safetensors or a state dict), or what save_pretrained wrote.",
)
@click.option("--encoder", metavar="FOLDER|FILE|HUB", help="The frozen encoder, where weights hold a head only.")
@click.option("--name", help="Of the detector [default: the architecture].")
@click.option("--fake-index", type=click.IntRange(min=0), help="Column that means fake, where labels do not say.")
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="FOLDER", help="[default: the weights folder]")
@click.option(
    "--images", type=click.Path(path_type=Path), metavar="MANIFEST|DIR", help="Images to verify on, the first 32."
)
@click.option("--force", is_flag=True, help="Replace what is there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for programs.")
def command(
    architecture: str,
    weights: Path,
    encoder: str | None,
    name: str | None,
    fake_index: int | None,
    out: Path | None,
    images: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Make a detector of published or own PyTorch weights: one ONNX file with its TOML, verified against torch.

    ARCHITECTURE is a published detector (docs/export-detector.md), or `transformers` for any image classifier.

    \b
    mllmrisk export-detector univfd --weights fc_weights.pth --encoder openai/clip-vit-large-patch14
    mllmrisk export-detector transformers --weights my-model/ --name mine
    """  # noqa: D301 (click's \b)
    from mllmrisk.detectors import export, published

    pictures = [] if images is None else export.read_pictures(images)
    if architecture == _ANY:
        if name is None or encoder is not None:
            raise UsageError(f"{_ANY} needs --name, and takes no --encoder")
        made = published.export_transformers(
            weights, name, fake_index=fake_index, out=out, pictures=pictures, force=force
        )
    else:
        if fake_index is not None:
            raise UsageError(f"--fake-index is for {_ANY}; the column of {architecture} is known")
        made = published.export_published(
            architecture, weights, encoder=encoder, name=name, out=out, pictures=pictures, force=force
        )
    if as_json:
        click.echo(json.dumps({**made._asdict(), "onnx": str(made.onnx), "toml": str(made.toml)}))
    else:
        click.echo("\n".join(_lines(made, in_weights_folder=out is None)))


def _lines(made: Exported, *, in_weights_folder: bool) -> list[str]:
    kind = "given" if made.given else "generated"
    answers = ", ".join(f"{picture} {logit:.4f}" for picture, logit in made.answers.items())
    use = made.name if in_weights_folder else str(made.toml)
    return [
        f"{made.name}: {made.parameters:,} parameters, every published tensor loaded by name and shape",
        f"ONNX against torch on {made.images} {kind} images, in batches of 1 and 3: logits differ by at most "
        f"{made.difference:.1e} ({made.relative:.1e} of the largest)",
        *([] if made.halved is None else [f"weights of 16 bits, to fit one file, move logits by {made.halved:.1e}"]),
        f"the core's input against the author's: at most {made.levels:.2f} of 256 levels apart",
        f"known answers, from torch through the author's pipeline and met by the written file: {answers}",
        f"licence: {made.licence}" + (f"; {made.restrictions}" if made.restrictions else ""),
        f"wrote {made.onnx} ({made.onnx.stat().st_size / 1e6:.1f} MB) and {made.toml.name}",
        f"use: mllmrisk detect --detector {use} --images MANIFEST",
    ]
