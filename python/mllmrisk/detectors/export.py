"""A torch network becomes a detector: one ONNX file with its TOML, and nothing is written that was not verified.

Verified is that every published tensor was loaded, that ONNX gives torch's logits at two batch sizes, that the Rust
core's preprocessing gives the author's input, and that the written detector, loaded as any user loads it, gives the
answers that torch gave through the author's own pipeline.

torch is imported inside functions only.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mllmrisk import config, detectors, images
from mllmrisk.detectors import card, feeds, places
from mllmrisk.detectors.architectures import ARCHITECTURES, CLASSIFIERS
from mllmrisk.detectors.feeds import Feed, Run
from mllmrisk.detectors.recipe import fake_column
from mllmrisk.errors import ImageError, UsageError
from mllmrisk.extras import optional
from mllmrisk.pictures import PICTURES

Pixels = NDArray[np.uint8]

#: ONNX may differ from torch by this much, relative to the largest logit.
APART = 1e-3
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
        levels=levels,
        answers=answers,
        licence=str(table["licence"]),
        restrictions=str(table.get("restrictions", "")),
    )


def _shown(pictures: Sequence[Pixels], feed: Feed) -> list[Pixels]:
    """What the networks are compared on: at least two, of one size where whole images are read."""
    shown = list(pictures)[:_MOST] or [picture() for picture in PICTURES.values()]
    if len(shown) == 1:
        shown.append(np.ascontiguousarray(shown[0][:, ::-1]))
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


def export_published(
    architecture: str,
    weights: Path,
    *,
    encoder: str | None = None,
    name: str | None = None,
    out: Path | None = None,
    pictures: Sequence[Pixels] = (),
    sizes: Any = None,
    force: bool = False,
) -> Exported:
    """Makes a published detector of its author's files.

    Args:
        architecture: a name of :data:`ARCHITECTURES` or of :data:`CLASSIFIERS`; the packaged TOML of that name says
            how it is fed and read.
        weights: the published file, or the folder that `save_pretrained` wrote.
        encoder: where the frozen encoder is, for files that hold a head only: a file, a folder, a hub repository.
        name: for weights of the same architecture that are not the published ones; `architecture` where None.
        out: the folder to write to; the user's weights folder where None.
        pictures: see :func:`export`.
        sizes: a config of the architecture; the published sizes where None.
        force: replace what is there.

    Raises:
        UsageError: no such architecture, weights of another network, a published file whose sha256 is another, an
            encoder that is missing or superfluous, something is there already; and as :func:`export`.
        MissingExtraError: as :func:`export`.
    """
    table = _packaged(architecture)
    table["name"] = name or architecture
    path = _free(table["name"], out, force)
    if architecture in CLASSIFIERS:
        if encoder is not None:
            raise UsageError(f"{architecture} has no separate encoder")
        return _of_classifier(weights, table, path, pictures)
    made = ARCHITECTURES.get(architecture)
    if made.encoder and encoder is None:
        raise UsageError(
            f"{architecture} is published as a head alone: give the encoder that it stands on, --encoder FOLDER or "
            f"--encoder {made.where_encoder}"
        )
    if encoder is not None and not made.encoder:
        raise UsageError(f"the file of {architecture} holds its whole network: no encoder")
    from mllmrisk.detectors.architectures.weights import fill, read, read_encoder

    digest = _digest(weights)
    if name in (None, architecture):
        _check_published(table, weights, digest)
    state, frozen = read(weights), {} if encoder is None else read_encoder(encoder)
    sizes = made.resized(state, made.config if sizes is None else sizes)
    module = made.module(sizes)
    fill(module, made.state(state, frozen, sizes), what=architecture)
    _resize(table, sizes.image, made.config.image)
    training = {"architecture": architecture, "weights": {"name": weights.name, "sha256": digest}}
    return export(module, table, path, pictures=pictures, training=training | ({"encoder": encoder} if encoder else {}))


def export_transformers(
    folder: Path,
    name: str,
    *,
    fake_index: int | None = None,
    out: Path | None = None,
    pictures: Sequence[Pixels] = (),
    force: bool = False,
) -> Exported:
    """Makes a detector of any image classifier of transformers; labels and preprocessing come from its folder.

    Args:
        folder: what `save_pretrained` wrote: config.json, preprocessor_config.json, model.safetensors.
        name: of the detector.
        fake_index: the column that means fake, for labels that do not say.
        out: see :func:`export_published`.
        pictures: see :func:`export_published`.
        force: see :func:`export_published`.

    Raises:
        UsageError: the labels do not say which one means fake; and as :func:`export_published`.
        MissingExtraError: as :func:`export`.
    """
    path = _free(name, out, force)
    optional("transformers", "exporting a classifier", "gen")
    from mllmrisk.detectors.architectures.transformers_classifier import load

    found = load(folder)
    output: dict[str, Any] = {"name": "logits", "kind": "logit1"}
    if len(found.labels) > 1:
        try:
            column = fake_column(found.labels, fake_index)
        except ValueError as wrong:
            raise UsageError(f"{folder}: {wrong} (--fake-index)") from wrong
        output = {"name": "logits", "kind": "softmax2", "labels": found.labels, "fake_index": column}
    table = {
        "name": name,
        "kind": "onnx",
        "version": found.version,
        "about": f"image classifier of transformers, exported from {folder.name}",
        "licence": found.licence or "not stated: see its model card",
        "citation": "its model card",
        "trained_on": "not stated: see its model card",
        "input": {"name": "pixel_values", **found.preprocessing},
        "output": output,
        "threshold": {"value": 0.0, "means": "probability 0.5"},
    }
    return _of_classifier(folder, table, path, pictures)


def _of_classifier(folder: Path, table: dict[str, Any], path: Path, pictures: Sequence[Pixels]) -> Exported:
    optional("transformers", "exporting a classifier", "gen")
    from mllmrisk.detectors.architectures.transformers_classifier import load

    found = load(folder)
    labels = list(table["output"].get("labels", []))
    if labels and labels != found.labels:
        raise UsageError(f"{folder}: its labels are {found.labels}, not {labels}: other weights, or another order")
    key = table["input"].get("name", "pixel_values")
    if key != "pixel_values":
        raise UsageError(f"{table['name']}: transformers calls its input pixel_values, not {key}")
    table["input"] = {"name": key, **found.preprocessing}  # the folder's own processor has the last word
    training = {"architecture": "transformers", "weights": {"name": folder.name, "sha256": found.version}}
    return export(
        found.module,
        table,
        path,
        pictures=pictures,
        author=lambda shown: {key: found.author(shown)},
        training=training,
    )


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


def _packaged(architecture: str) -> dict[str, Any]:
    if architecture not in CLASSIFIERS:
        ARCHITECTURES.get(architecture)  # its error names the nearest one
    return tomllib.loads(config.find("detectors", architecture).read_text(encoding="utf-8"))


def _free(name: str, out: Path | None, force: bool) -> Path:
    """Where the ONNX file goes."""
    if not name or name != Path(name).name or name.startswith("."):
        raise UsageError(f"{name!r} cannot be the name of a detector: letters, digits, - and _")
    path = (places.home() / name if out is None else out) / f"{name}.onnx"
    if path.exists() and not force:
        raise UsageError(f"{path} exists; give --force to replace it")
    return path


def _digest(path: Path) -> str:
    if not path.is_file():
        raise UsageError(f"no weights file {path}")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_published(table: Mapping[str, Any], weights: Path, digest: str) -> None:
    """Refuses, under the published detector's own name, a file that is known to be another."""
    known = {file["sha256"] for file in table.get("published", {}).get("files", []) if file.get("sha256")}
    if known and digest not in known:
        raise UsageError(
            f"{weights}: not the published file (its sha256 begins {digest[:12]}); "
            f"weights of your own need a name of their own: --name"
        )


def _resize(table: dict[str, Any], side: int, published: int) -> None:
    """Gives a recipe the side of a network that is not of the published size, its margins in proportion."""
    made = table.get("input", {})
    if side == published or "size" not in made:
        return
    if "resize" in made:
        made["resize"] = round(made["resize"] * side / published)
    made["size"] = [side, side]
