"""A fine-tuned detector from beginning to end: divided, trained, calibrated, exported."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk import metrics
from mllmrisk.detectors.finetuning import backbones, calibrate, division
from mllmrisk.detectors.finetuning.data import Examples, Look, Reader
from mllmrisk.detectors.finetuning.recipe import Backbone, Found

#: Rows of real images that the exported network is proved on.
_PROVED = 8
#: Packages that decide a result.
_VERSIONS = ("mllmrisk", "torch", "transformers", "peft", "onnx", "onnxscript")


class Tuned(NamedTuple):
    """A trained network, ready to be carried away.

    Attributes:
        model: the ONNX model, calibration inside; it has no card yet.
        inner: the calibrated logit of each image of the calibration split, by position: fitting and validation have
            seen none of its group.
        inner_auc: AUC of these.
        record: how it was trained, of what JSON can hold.
    """

    model: bytes
    inner: dict[int, float]
    inner_auc: float
    record: dict[str, Any]


def train(
    found: Found,
    examples: Examples,
    look: Look,
    *,
    seed: int,
    device: str = "auto",
    threads: int | None = None,
    reader: Reader | None = None,
    checkpoint: Path | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> Tuned:
    """Trains a backbone on images.

    On a CPU the result is the same for the same arguments and number of threads, whether it ran at one go or went on
    from a checkpoint. On a GPU it is not bit for bit the same.

    Args:
        found: the backbone.
        examples: real and generated images.
        look: the perturbation chain of an image's augmented copy, or of the view.
        seed: of the division, the draws, and what starts at random.
        device: `auto`, `cpu` or `cuda[:INDEX]`.
        threads: of the core and of torch, during this call; all processors where None.
        reader: prepared images that are shared with other trainings of the same input.
        checkpoint: where to keep the state after each epoch, and to go on from.
        tell: called after each epoch with (done, at most).

    Raises:
        ValueError: too few images of a label to divide.
        UsageError: weights that cannot be loaded, a device that is not there.
        MissingExtraError: a package is not installed.
        OutOfMemoryError: a single row does not fit on the device.
    """
    backbone = found.backbone
    network = backbones.build(backbone, found.folder, seed=seed)
    from mllmrisk.detectors.finetuning import loop, ship

    divided = division.divide(examples.groups, examples.labels, examples.kinds, backbone.shares, seed)
    reader = reader or Reader(backbone.input, threads=threads)
    where = loop.chosen_device(device)
    run = loop.Run(where, seed, checkpoint, _identity(found, examples, look, divided, seed), tell or (lambda *_: None))
    with loop.threads(threads):
        history = loop.fit(network, examples, divided, backbone.course, look, reader, run)
        module = network.merged()
        held = divided.of("calibration")
        raw = loop.logits(module, examples, held, look, reader, where, backbone.course.batch)
        labels = examples.labels[list(raw)]
        if labels.all() or not labels.any():
            raise ValueError("fine-tuning: the calibration images that can be read are all of one label")
        values = np.array(list(raw.values()))
        calibration = calibrate.fit(values, labels, one_row=backbone.input.crop_mode != "tiles")
        rows = _real_rows(examples, list(raw), look, reader)
        model = ship.to_onnx(module.cpu(), calibration, rows)
    calibrated = calibration(values)
    auc = metrics.auc(calibrated, labels)
    record = _record(found, examples, divided, seed, network.origin, calibration) | {
        "inner_auc": auc,
        "device": str(where),
        "precision": "bfloat16" if where.type == "cuda" else "float32",
        "epochs": len(history.epochs),
        "best_epoch": history.best + 1,
        "batch_parts": history.parts,
        "losses": [[round(epoch.fit, 5), round(epoch.validation, 5)] for epoch in history.epochs],
        "validation_auc": round(history.epochs[history.best].auc, 5),
        "unreadable": _unreadable(examples, reader),
    }
    return Tuned(model, dict(zip(raw, calibrated.tolist(), strict=True)), auc, record)


def _unreadable(examples: Examples, reader: Reader) -> dict[str, int]:
    """How many of the images gave nothing under some chain, by reason; the reader may know of others' images too."""
    own = set(examples.names)
    return dict(Counter({name: reason for (name, _), reason in reader.unreadable.items() if name in own}.values()))


def _real_rows(examples: Examples, positions: list[int], look: Look, reader: Reader) -> NDArray[np.float32]:
    """Rows of images that the network was not fitted on, at least two."""
    chosen = positions[:_PROVED]
    rows = [row for row in reader.rows(examples, chosen, [look(i, None) for i in chosen]) if row is not None]
    return reader.scaled(np.concatenate([*rows, *rows])[:_PROVED])


def _record(
    found: Found,
    examples: Examples,
    divided: division.Division,
    seed: int,
    origin: dict[str, str],
    calibration: calibrate.Calibration,
) -> dict[str, Any]:
    parts = {}
    for name in division.PARTS:
        chosen = divided.of(name)
        fake = int(examples.labels[chosen].sum())
        parts[name] = {"real": len(chosen) - fake, "fake": fake, "groups": len(np.unique(examples.groups[chosen]))}
    return {
        "backbone": found.backbone.name,
        "backbone_digest": found.digest,
        "mode": found.backbone.mode,
        "origin": origin,
        "seed": seed,
        "real": int((~examples.labels).sum()),
        "fake": int(examples.labels.sum()),
        "parts": parts,
        "divided_by": divided.by,
        "calibration": {
            "method": calibration.method,
            "slope": round(float(calibration.slopes[-1]), 6),
            "offset": round(float(calibration(np.zeros(1))[0]), 6),
        },
        "course": msgspec.to_builtins(found.backbone.course),
        "versions": _versions(found.backbone),
    }


def _versions(backbone: Backbone) -> dict[str, str]:
    wanted = set(_VERSIONS)
    if backbone.architecture not in {"siglip", "vit"}:
        wanted -= {"transformers", "peft"}
    if backbone.mode != "lora":
        wanted -= {"peft"}
    return {name: version(name) for name in _VERSIONS if name in wanted}


def _identity(found: Found, examples: Examples, look: Look, divided: division.Division, seed: int) -> str:
    """Digest of everything that decides a training, so that no checkpoint of another is gone on from."""
    total = hashlib.sha256(f"{found.digest} {seed} {_versions(found.backbone)}\n".encode())
    for i, name in enumerate(examples.names):
        label, part = int(examples.labels[i]), int(divided.part[i])
        total.update(f"{name} {label} {part} {examples.weights[i]!r} {look(i, None)} {look(i, 0)}\n".encode())
    return total.hexdigest()
