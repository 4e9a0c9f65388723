"""Encoders: image → vector, frozen. The tables of names; nothing is imported until asked for.

An encoder is one TOML in `configs/encoders/` (or a user's file) that names its kind; a kind is one file here and one
line of the table, or an entry point of an outside package (`mllmrisk.encoder_kinds`). An encoder that needs no TOML is
an entry point of the group `mllmrisk.encoders`.
"""

from __future__ import annotations

from pathlib import Path

from mllmrisk import config
from mllmrisk.detectors.encoders.base import Common, Encoder, EncoderClass, EncoderKind
from mllmrisk.errors import UsageError
from mllmrisk.registry import Registry

#: Adapters by kind. A TOML without a kind is of the kind `onnx`.
KINDS: Registry[EncoderKind] = Registry(
    "kind of encoder",
    "mllmrisk.encoder_kinds",
    {
        "onnx": "mllmrisk.detectors.encoders.onnx:made",
        "transformers": "mllmrisk.detectors.encoders.transformers:made",
    },
    {"onnx": "cpu", "transformers": "gen"},
)

#: Encoders by name: the packaged TOMLs, all through one module, and outside packages.
ENCODERS: Registry[EncoderClass] = Registry(
    "encoder",
    "mllmrisk.encoders",
    {name: f"mllmrisk.detectors.encoders.packaged:{name}" for name in config.names("encoders")},
)

#: An encoder's TOML, read and not loaded.
Described = config.Described[Common]


def describe(name_or_file: str) -> Described:
    """Reads an encoder's TOML; loads nothing.

    Raises:
        UsageError: no such encoder or file, or a common key is wrong or missing.
    """
    return config.describe("encoders", name_or_file, Common)


def has_toml(name_or_file: str) -> bool:
    """Whether an encoder is one that :func:`describe` can read, and not an outside package's.

    Raises:
        UsageError: there is no encoder of that name.
    """
    if name_or_file.endswith(".toml") or name_or_file in config.names("encoders"):
        return True
    if name_or_file not in ENCODERS.names():
        ENCODERS.get(name_or_file)  # says what is known, and what may have been meant
    return False


def load(name_or_file: str, *, device: str = "cpu") -> Encoder:
    """The encoder of a registered name, or the one that a user's TOML file describes, loaded and tried.

    Args:
        name_or_file: a packaged TOML or an outside package's encoder by name, or the path of a `.toml`.
        device: `auto`, `cpu`, `cuda` or `cuda:INDEX`.

    Raises:
        UsageError: no such encoder or file, or it cannot be trusted (weights, device, shapes).
        MissingExtraError: it needs a package that is not installed.
    """
    if not name_or_file.endswith(".toml"):
        return ENCODERS.get(name_or_file)(device=device)
    return from_file(config.find("encoders", name_or_file), device=device)


def from_file(path: Path, *, device: str = "cpu") -> Encoder:
    """The encoder that a TOML file describes."""
    table = config.table(path)
    kind = str(table.get("kind", "onnx"))
    try:
        return KINDS.get(kind)(table, path.parent, device=device)
    except UsageError as wrong:
        raise UsageError(f"{path}: {wrong}") from wrong
