"""The detectors of `configs/detectors/`: each TOML there is an attribute of this module that makes its detector."""

from __future__ import annotations

import functools

from mllmrisk import config, detectors
from mllmrisk.detectors.base import Detector, DetectorClass


def _load(name: str, *, device: str = "cpu") -> Detector:
    return detectors.load(name, device=device)


def __getattr__(name: str) -> DetectorClass:
    if name not in config.names("detectors"):
        raise AttributeError(name)
    return functools.partial(_load, name)
