"""Detectors: image → score that it is fake. The tables of names; nothing is imported until asked for.

A detector is one TOML in `configs/detectors/` (or a user's file, or an ONNX file that carries its TOML) that names its
kind; a kind is one file here and one line of the table, or an entry point of an outside package
(`mllmrisk.detector_kinds`). A detector that needs no TOML is an entry point of the group `mllmrisk.detectors`.
"""

from __future__ import annotations

from pathlib import Path

from mllmrisk import config
from mllmrisk.detectors import card, places
from mllmrisk.detectors.base import Detector, DetectorClass, DetectorKind
from mllmrisk.detectors.recipe import Common, Model
from mllmrisk.errors import UsageError
from mllmrisk.registry import Registry

#: Adapters by kind. A TOML without a kind is of the kind `onnx`.
KINDS: Registry[DetectorKind] = Registry(
    "kind of detector",
    "mllmrisk.detector_kinds",
    {
        "onnx": "mllmrisk.detectors.onnx:made",
        "aide": "mllmrisk.detectors.aide:made",
        "spai": "mllmrisk.detectors.spai:made",
        "forensic": "mllmrisk.detectors.forensic:made",
        "http": "mllmrisk.detectors.http:made",
        "de-fake": "mllmrisk.detectors.de_fake:made",
    },
    {
        "onnx": "cpu",
        "aide": "cpu",
        "spai": "cpu",
        "forensic": "cpu",
        "http": "api",
        "de-fake": "gen",
    },
)

#: Detectors by name: the packaged TOMLs, all through one module, and outside packages.
DETECTORS: Registry[DetectorClass] = Registry(
    "detector",
    "mllmrisk.detectors",
    {name: f"mllmrisk.detectors.packaged:{name}" for name in config.names("detectors")},
)


def load(name_or_file: str, *, device: str = "cpu") -> Detector:
    """The detector of a registered name, or the one in a file, loaded and tried.

    Args:
        name_or_file: a name of `mllmrisk list detectors`, a `.toml`, or an `.onnx` that mllmrisk wrote. A name stands
            for what `mllmrisk export-detector` put into the weights folder, else for the packaged TOML.
        device: `auto`, `cpu`, `cuda[:INDEX]` or `tensorrt[:INDEX]`.

    Raises:
        UsageError: no such detector or file, or it cannot be trusted (weights, device, known answer).
        MissingExtraError: it needs a package that is not installed.
    """
    path = _file(name_or_file)
    if path is None:  # of an outside package
        return DETECTORS.get(name_or_file)()
    return from_file(path, device=device)


def from_file(path: Path, *, device: str = "cpu") -> Detector:
    """The detector that a `.toml` describes, or that an `.onnx` with a card is."""
    table = card.table(path) if path.suffix == ".onnx" else config.table(path)
    try:
        return KINDS.get(config.converted(table, Common).kind)(table, path.parent, device=device)
    except UsageError as wrong:
        if str(path) in str(wrong) or repr(table.get("name")) in str(wrong):
            raise
        raise UsageError(f"{path}: {wrong}") from wrong


def describe(name_or_file: str) -> config.Described[Common]:
    """What a detector says of itself, read and not loaded: neither weights nor an optional package are needed.

    Raises:
        UsageError: no such detector or file, one of an outside package (it has no TOML), or a common key is wrong.
    """
    path = _file(name_or_file)
    if path is None:
        raise UsageError(f"the detector {name_or_file!r} comes from another package and has no TOML")
    if path.suffix != ".onnx":
        return config.describe("detectors", str(path), Common)
    table = card.table(path)
    try:
        common = config.converted(table, Common)
    except UsageError as wrong:
        raise UsageError(f"{path}: {wrong}") from wrong
    rest = {key: value for key, value in table.items() if key not in Common.__struct_fields__}
    return config.Described(common, rest, path.parent, table["model"]["sha256"][:16])


def restrictions(name_or_file: str) -> str:
    """The use that a detector's licence forbids, to be said before its weights are fetched or run; "" if none is known.

    Raises:
        UsageError: no such detector or file.
    """
    return "" if _file(name_or_file) is None else describe(name_or_file).common.restrictions


def stays_here(name_or_file: str) -> bool:
    """Whether it asks a service, whose pace and allowance belong to one process: it is not spread over machines.

    Raises:
        UsageError: no such detector or file.
    """
    return _file(name_or_file) is not None and KINDS.extra(describe(name_or_file).common.kind) == "api"


def weights_here(name: str) -> bool | None:
    """Whether a registered detector's weights are on this machine; None where it has none (a service, another package).

    Nothing is loaded: a file that is there may still be refused.
    """
    path = _file(name)
    if path is None:
        return None
    if path == places.exported(name):
        return True
    described = describe(name)
    if "model" in described.parameters:
        return places.here(config.converted(described.parameters["model"], Model), name, described.folder)
    return False if "published" in described.parameters else None


def _file(name_or_file: str) -> Path | None:
    """The file of a detector: the user's, the exported one of that name, the packaged one; None for an outside one.

    Raises:
        UsageError: no such file, and no such name.
    """
    if name_or_file.endswith((".onnx", ".toml")) or "/" in name_or_file:
        path = Path(name_or_file)
        if not path.is_file():
            raise UsageError(f"no detector file {name_or_file}")
        return path
    if (exported := places.exported(name_or_file)).is_file():
        return exported
    if name_or_file in config.names("detectors"):
        return config.find("detectors", name_or_file)
    DETECTORS.get(name_or_file)
    return None
