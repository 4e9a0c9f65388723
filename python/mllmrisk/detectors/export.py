"""A torch network becomes a detector: one ONNX file with its TOML, and nothing is written that was not verified.

Verified is that every published tensor was loaded, that ONNX gives torch's logits at two batch sizes, that the Rust
core's preprocessing gives the author's input, and that the written detector, loaded as any user loads it, gives the
answers that torch gave through the author's own pipeline.

torch is imported inside functions only.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mllmrisk import detectors, images
from mllmrisk.detectors import card, feeds
from mllmrisk.detectors.feeds import Feed, Run
from mllmrisk.errors import ImageError, UsageError
from mllmrisk.extras import optional
from mllmrisk.pictures import PICTURES

Pixels = NDArray[np.uint8]

#: ONNX may differ from torch by this much, relative to the largest logit.
APART = 1e-3
#: Weights of 16 bits, where a file cannot hold them otherwise, may move logits by this much of the largest.
HALVED = 1e-2
#: The core's input may differ from the author's by this many of 256 levels: one of rounding, and float dust.
LEVELS = 1.01
#: Pictures of the known-answer pair.
_PROBES = ("ellipse", "grain")
#: Given images that are used; each is run several times through both networks.
_MOST = 32


class Exported(NamedTuple):
    """What was written, and what was verified before.

    Attributes:
        name: under which `mllmrisk detect --detector NAME` finds it, if it went to the weights folder.
        onnx, toml: the files.
        sha256: of the ONNX file.
        parameters: numbers in the network.
        images: pictures that ONNX and torch were compared on.
        given: whether these were given (or generated here).
        difference: largest difference of a logit between ONNX and torch, over batches of 1 and 3.
        relative: the same, relative to the largest logit.
        halved: by how much a logit moved, relative to the largest one, when weights that are too many for one file were
            rounded to 16 bits; None where they were not.
        levels: largest difference between the core's input and the author's, in levels of 256.
        answers: raw scores of the known-answer pair, by picture, from torch through the author's own pipeline.
        licence, restrictions: what the TOML says.
    """

    name: str
    onnx: Path
    toml: Path
    sha256: str
    parameters: int
    images: int
    given: bool
    difference: float
    relative: float
    halved: float | None
    levels: float
    answers: dict[str, float]
    licence: str
    restrictions: str


def export(
    module: Any,
    recipe: Mapping[str, Any],
    path: Path,
    *,
    pictures: Sequence[Pixels] = (),
    author: Callable[[Sequence[Pixels]], Mapping[str, Any]] | None = None,
    training: Mapping[str, Any] | None = None,
) -> Exported:
    """Writes a torch module as a detector.

    Args:
        module: a `torch.nn.Module` on the CPU in float32; its `forward` has the recipe's `input.name` as its parameter
            and returns raw logits, of the shape that `output.kind` says.
        recipe: the detector's TOML as a table, without `model` and `probe` (docs/detectors.md).
        path: of the `.onnx`; the `.toml` goes beside it.
        pictures: (H, W, 3) uint8 images to verify on; generated ones where there are none.
        author: these pictures → the inputs that the network's author makes of them, by name; what the recipe says,
            done by Pillow and torchvision, where None.
        training: what is known of how it was trained, for the card.

    Raises:
        UsageError: the recipe is wrong, or one of the four verifications fails; nothing is written then.
        MissingExtraError: torch, onnx or onnxruntime is not installed.
    """
    torch = optional("torch", "exporting a detector", "gen")
    optional("onnxscript", "exporting a detector", "finetune")
    table = {key: value for key, value in recipe.items() if key not in ("model", "probe")}
    name = str(table.get("name"))
    from mllmrisk.detectors import torch_onnx

    module = module.eval().float().requires_grad_(False)
    feed = feeds.of(table, module)
    own = feed.author if author is None else author

    def run(inputs: Mapping[str, Any]) -> Sequence[NDArray[np.float64]]:
        return torch_onnx.answers(module, inputs)

    shown = _shown(pictures, feed)
    theirs = own(shown)
    levels = _levels(feed, shown, theirs)
    inputs = {key: torch.as_tensor(value) for key, value in feed.completed(run, theirs).items()}
    halved = None
    if torch_onnx.too_large(module):
        halved = torch_onnx.halve(module, inputs)
        if halved > HALVED:
            raise UsageError(f"{name}: too large for one ONNX file, and 16-bit weights move its logits by {halved:.2g}")
    data = torch_onnx.convert(module, inputs, outputs=feed.outputs, free=feed.free)
    difference, relative = torch_onnx.distance(data, module, inputs, outputs=feed.outputs)
    if relative > APART:
        raise UsageError(
            f"{name}: ONNX and torch are {difference:.3g} apart, {relative:.2g} of the largest logit, not {APART:g}"
        )
    table["probe"], answers = _known_answers(feed, run, own)
    onnx, toml = _written(path, data, table, training or {})
    return Exported(
        name=name,
        onnx=onnx,
        toml=toml,
        sha256=card.table(onnx)["model"]["sha256"],
        parameters=sum(part.numel() for part in module.parameters()),
        images=len(shown),
        given=bool(pictures),
        difference=difference,
        relative=relative,
        halved=halved,
        levels=levels,
        answers=answers,
        licence=str(table["licence"]),
        restrictions=str(table.get("restrictions", "")),
    )


def _shown(pictures: Sequence[Pixels], feed: Feed) -> list[Pixels]:
    """What the networks are compared on: at least two, of one size where whole images are read."""
    shown = list(pictures)[:_MOST] or [picture() for picture in PICTURES.values()]
    # Its mirror image without an edge: an odd size, where pipelines round differently.
    shown.append(np.ascontiguousarray(shown[0][1:, :0:-1]))
    if not feed.whole:
        return shown
    height, width = (min(picture.shape[axis] for picture in shown) // 2 * 2 for axis in (0, 1))
    return [np.ascontiguousarray(picture[:height, :width]) for picture in shown]


def _levels(feed: Feed, shown: Sequence[Pixels], author: Mapping[str, Any]) -> float:
    """How far the core's input is from the author's, in levels of 256.

    Raises:
        UsageError: further than `LEVELS`, or of another shape.
    """
    ours = feed.core(shown)
    apart = 0.0
    for key, values in author.items():
        theirs = np.asarray(values)
        if ours[key].shape != theirs.shape:
            raise UsageError(f"{feed.name}: the recipe makes {key} {ours[key].shape}, its author {theirs.shape}")
        apart = max(apart, float((np.abs(ours[key] - theirs) * feed.levels).max()))
    if not apart <= LEVELS:
        raise UsageError(
            f"{feed.name}: the recipe's input is up to {apart:.1f} of 256 levels from its author's, not {LEVELS}"
        )
    return apart


def _known_answers(
    feed: Feed, run: Run, author: Callable[[Sequence[Pixels]], Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The `[[probe]]` tables: what torch says of each picture, through the author's pipeline.

    A level of difference in the input may move an answer, so the tolerance is what this network makes of it here.
    """
    probes, answers = [], {}
    for name in _PROBES:
        picture = [PICTURES[name]()]
        theirs = feed.score(run, author(picture))
        ours = feed.score(run, feed.core(picture))
        answers[name] = theirs
        tolerance = max(2 * abs(theirs - ours), 1e-3 * abs(theirs)) + 1e-3
        probes.append({"image": name, "logit": theirs, "tolerance": float(f"{tolerance:.1g}")})
    return probes, answers


def _written(path: Path, data: bytes, table: dict[str, Any], training: Mapping[str, Any]) -> tuple[Path, Path]:
    """Writes, and loads what was written as any user does, in a folder of its own; only then it goes to its place."""
    data = card.write(data, table, training=training)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}.") as apart:
        toml = card.save(Path(apart) / path.name, data, table)
        detectors.from_file(toml, device="cpu")
        for file in (Path(apart) / path.name, toml):  # the TOML last: what it names is there then
            shutil.move(file, path.parent / file.name)
    return path, path.with_suffix(".toml")


def read_pictures(path: Path) -> list[Pixels]:
    """The first images of a manifest or folder, decoded; one that cannot be read is left out.

    Raises:
        UsageError: none can be read.
    """
    from mllmrisk import manifest

    found: list[Pixels] = []
    for entry in manifest.read(path, labelled=False).entries:
        if len(found) == _MOST:
            break
        try:
            found.append(images.decode(entry.read()))
        except (OSError, ImageError):
            continue
    if not found:
        raise UsageError(f"{path}: no image that can be read")
    return found
