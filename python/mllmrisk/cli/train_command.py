"""`mllmrisk train`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mllmrisk.cli.main import FAILED_UNITS
from mllmrisk.cli.output import check_free, check_suffix
from mllmrisk.cli.progress import Progress
from mllmrisk.errors import UsageError

if TYPE_CHECKING:
    from mllmrisk.experiments.duplicates import Policy


#: What stands for an encoder or backbone that is not named: those that come with the package.
_DEFAULTS = {"probe": "micro-clip", "finetune": "micro-cnn"}


@click.command(name="train")
@click.option(
    "--images", required=True, type=click.Path(path_type=Path), metavar="MANIFEST|DIR", help="Labelled images."
)
@click.option(
    "--family",
    default="forensic",
    show_default=True,
    metavar="forensic|probe|finetune",
    help="Kind of detector.",
)
@click.option(
    "--encoder",
    metavar="NAME|FILE",
    help="For probe: the frozen encoder (mllmrisk list encoders) [default: micro-clip].",
)
@click.option(
    "--backbone", metavar="NAME|FILE", help="For finetune: the network (mllmrisk list backbones) [default: micro-cnn]."
)
@click.option(
    "--view",
    default="recompressed",
    show_default=True,
    metavar="native|matched|recompressed",
    help="How images are looked at; native learns containers as well.",
)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), metavar="DETECTOR.onnx", help="The file.")
@click.option("--seed", type=int, default=0, show_default=True, help="Inner splits, weights and augmentation.")
@click.option(
    "--near-duplicates",
    type=click.Choice(("stop", "join", "tell")),
    default="stop",
    show_default=True,
    help="One picture in two groups: stop with the list, join the groups, or tell how many and go on.",
)
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:i]", help="Where networks run.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the core [default: all cores].")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for programs.")
def command(
    images: Path,
    family: str,
    encoder: str | None,
    backbone: str | None,
    view: str,
    out: Path,
    seed: int,
    near_duplicates: Policy,
    device: str,
    threads: int | None,
    force: bool,
    as_json: bool,
) -> int:
    """Train a detector on labelled images and write it as an ONNX file with its TOML.

    \b
    mllmrisk train --images manifest.csv -o mine.onnx
    mllmrisk train --images manifest.csv --family probe --encoder micro-clip -o mine.onnx
    mllmrisk detect --detector mine.onnx --images others/

    A call that was interrupted goes on where it stood when it is made again.
    """  # noqa: D301 (click's \b)
    check_suffix(out, (".onnx",))
    check_free(out, force)
    from mllmrisk import training

    made = training.train(
        images,
        out,
        family=_named(family, encoder, backbone),
        view=view,
        seed=seed,
        near_duplicates=near_duplicates,
        device=device,
        threads=threads,
        progress=Progress(),
    )
    if as_json:
        click.echo(json.dumps({**made._asdict(), "path": str(made.path), "toml": str(made.toml)}))
    else:
        click.echo(f"{made.path}: trained on {made.real} photographs and {made.fake} generated images ({view} view)")
        click.echo(
            f"AUC {made.inner_auc:.3f} inside the training images, split by {made.groups}; new sources may differ"
        )
        for rate, value in made.thresholds.items():
            text = f"logit {value:.3f}" if isinstance(value, float) else f"none ({value})"
            click.echo(f"threshold at {float(rate):.0%} false alarms: {text}")
        click.echo(f"what it is and how to run it elsewhere: {made.toml}")
    for reason, count in made.unreadable.items():
        click.echo(f"mllmrisk: {count} image(s) left out: {reason}", err=True)
    return FAILED_UNITS if made.unreadable else 0


def _named(family: str, encoder: str | None, backbone: str | None) -> str:
    """The family with its argument: `probe:ENCODER`."""
    for kind, argument, option in (("probe", encoder, "--encoder"), ("finetune", backbone, "--backbone")):
        if argument is not None and family != kind:
            raise UsageError(f"{option} is for --family {kind}, not {family}")
        if family == kind and argument is None:
            click.echo(f"mllmrisk: {option} {_DEFAULTS[kind]} (a small one that comes along; name another)", err=True)
    argument = encoder or backbone or _DEFAULTS.get(family)
    return family if argument is None else f"{family}:{argument}"
