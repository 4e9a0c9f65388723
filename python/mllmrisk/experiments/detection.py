"""`detection`: how well detectors tell generated images from photographs, per paradigm and generator, per view."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mllmrisk.experiments import detecting
from mllmrisk.experiments.crossfit import Plan, crossfit
from mllmrisk.experiments.recipes import FORENSIC
from mllmrisk.experiments.study import Study
from mllmrisk.experiments.views import VIEWS
from mllmrisk.records import Estimate


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite may set.

    Attributes:
        views: under which container images are looked at; a model is trained and tested within one view.
        repeats, folds: divisions of the groups, and folds of each.
        rates: false-alarm rates of the detection rates.
        min_images: generators with fewer images have no rows of their own.
    """

    views: tuple[str, ...] = VIEWS
    repeats: int = 2
    folds: int = 5
    rates: tuple[float, ...] = (0.05, 0.01,)
    min_images: int = 5


def plan(view: str, parameters: Parameters) -> Plan:
    """Trained on every generated image of the training folds."""
    return Plan(view, "all", lambda _: True, parameters.repeats, parameters.folds, tuple(parameters.rates))


class Detection:
    """Group-wise cross-fitted detection: every image is scored by a model that has not seen its source."""

    kind = "detection"
    Parameters = Parameters

    def __init__(self, parameters: Parameters) -> None:
        """Takes the suite's parameters."""
        self.parameters = parameters

    def needs(self) -> Iterable[str]:
        """Training and onnxruntime."""
        return ("train", "cpu")

    def estimates(self, study: Study) -> list[Estimate]:
        """Rows per view: all generated images, each paradigm, each generator; false alarms per real source."""
        found: list[Estimate] = []
        for view in self.parameters.views:
            asked = plan(view, self.parameters)
            scored = crossfit(study, FORENSIC, asked, [study.arm(view)])[view]
            where = detecting.Where("detection", FORENSIC.name, view, f"{FORENSIC.name}/{view}/all", "all")
            for group in detecting.groups(study.samples, self.parameters.min_images):
                found += detecting.figures(study, scored, where, group, self.parameters.rates)
            found += detecting.false_alarms(study, scored, where, self.parameters.rates)
        return found
