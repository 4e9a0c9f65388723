"""Detectors: image → score that it is fake. The table of names; nothing is imported until asked for."""

from __future__ import annotations

from mllmrisk.detectors.base import Detector
from mllmrisk.registry import Registry

DETECTORS: Registry[type[Detector]] = Registry(
    "detector",
    "mllmrisk.detectors",
    {"forensic": "mllmrisk.detectors.forensic:Forensic"},
    {"forensic": "cpu"},
)
