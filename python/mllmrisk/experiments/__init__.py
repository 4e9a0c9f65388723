"""Experiments: questions with their samples, scorers and estimates. The table of kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mllmrisk.registry import Registry

if TYPE_CHECKING:
    from mllmrisk.experiments.base import Experiment

EXPERIMENTS: Registry[type[Experiment]] = Registry(
    "experiment",
    "mllmrisk.experiments",
    {
        "detection": "mllmrisk.experiments.detection:Detection",
        "leak": "mllmrisk.experiments.leak:Leak",
        "laundering": "mllmrisk.experiments.laundering:Laundering",
        "retrain": "mllmrisk.experiments.retrain:Retrain",
        "richness": "mllmrisk.experiments.richness:Richness",
        "contrast": "mllmrisk.experiments.contrast:Contrast",
        "unsafe": "mllmrisk.experiments.unsafe:Unsafe",
        "corrupted": "mllmrisk.experiments.corrupted:Corrupted",
        "filter": "mllmrisk.experiments.filter:Filter",
        "agreement": "mllmrisk.experiments.agreement:Agreement",
    },
    dict.fromkeys(("detection", "leak", "laundering", "retrain", "richness", "contrast"), "train"),
)
