"""Detectors: image → score that it is fake. The table of names; nothing is imported until asked for."""

from __future__ import annotations

from pathlib import Path

from mllmrisk.detectors.base import Detector
from mllmrisk.errors import UsageError
from mllmrisk.registry import Registry

DETECTORS: Registry[type[Detector]] = Registry(
    "detector",
    "mllmrisk.detectors",
    {"forensic": "mllmrisk.detectors.forensic:Forensic"},
    {"forensic": "cpu"},
)

#: Detectors without weights of their own: they exist once trained.
_TRAINED = frozenset({"forensic"})


def load(name_or_file: str, *, device: str = "cpu") -> Detector:
    """The detector of a registered name, or the one in a file that `mllmrisk train` wrote.

    Raises:
        UsageError: no such detector or file.
        MissingExtraError: it needs a package that is not installed.
    """
    if name_or_file.endswith(".onnx") or "/" in name_or_file:
        from mllmrisk.detectors.forensic import Forensic

        return Forensic(Path(name_or_file), device=device)
    if name_or_file in _TRAINED:
        raise UsageError(
            f"{name_or_file!r} is trained on your images: mllmrisk train --images MANIFEST -o DETECTOR.onnx, "
            f"then give the file"
        )
    return DETECTORS.get(name_or_file)()
