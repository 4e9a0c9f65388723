"""Detectors out of what their authors publish: a file of weights, or the folder of an image classifier of transformers.

torch and transformers are imported inside functions only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mllmrisk import config
from mllmrisk.detectors import places
from mllmrisk.detectors.architectures import ARCHITECTURES, CLASSIFIERS
from mllmrisk.detectors.export import Exported, export
from mllmrisk.detectors.recipe import fake_column
from mllmrisk.errors import UsageError
from mllmrisk.extras import optional

if TYPE_CHECKING:
    from mllmrisk.detectors.architectures.transformers_classifier import Classifier

Pixels = NDArray[np.uint8]


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
        pictures: see :func:`~mllmrisk.detectors.export.export`.
        sizes: a config of the architecture; the published sizes where None.
        force: replace what is there.

    Raises:
        UsageError: no such architecture, weights of another network, a published file whose sha256 is another, an
            encoder that is missing or superfluous, something is there already; and as
            :func:`~mllmrisk.detectors.export.export`.
        MissingExtraError: as :func:`~mllmrisk.detectors.export.export`.
    """
    table = _packaged(architecture)
    table["name"] = name or architecture
    path = _free(table["name"], out, force)
    if architecture in CLASSIFIERS:
        if encoder is not None:
            raise UsageError(f"{architecture} has no separate encoder")
        optional("transformers", "exporting a classifier", "gen")
        from mllmrisk.detectors.architectures.transformers_classifier import load

        return _of_classifier(load(weights), weights, table, path, pictures)
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
        MissingExtraError: as :func:`~mllmrisk.detectors.export.export`.
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
    return _of_classifier(found, folder, table, path, pictures)


def _of_classifier(
    found: Classifier, folder: Path, table: dict[str, Any], path: Path, pictures: Sequence[Pixels]
) -> Exported:
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


def _packaged(architecture: str) -> dict[str, Any]:
    if architecture not in CLASSIFIERS:
        ARCHITECTURES.get(architecture)  # its error names the nearest one
    return config.table(config.find("detectors", architecture))


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
