"""`detection`: how well detectors tell generated images from photographs, per paradigm and generator, per view."""

from __future__ import annotations

import msgspec

from mllmrisk.experiments import detecting
from mllmrisk.experiments.examined import Division, LooksAtDetectors
from mllmrisk.experiments.study import Study
from mllmrisk.experiments.views import VIEWS
from mllmrisk.records import Estimate


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite may set.

    Attributes:
        detectors: trained here (`forensic`, `probe:ENCODER`, `finetune:BACKBONE`) or with weights of their own
            (registered names, files); empty for the profile's.
        device: where they run; the call's.
        views: under which container images are looked at; a model is trained and tested within one view.
        repeats, folds: divisions of the groups, and folds of each.
        rates: false-alarm rates of the detection rates.
        min_images: generators with fewer images have no rows of their own, and no figure is against a source of
            photographs that has fewer.
    """

    detectors: tuple[str, ...] = ()
    device: str = "auto"
    views: tuple[str, ...] = VIEWS
    repeats: int = 4
    folds: int = 3
    rates: tuple[float, ...] = (0.05, 0.01)
    min_images: int = 5


class Detection(LooksAtDetectors[Parameters]):
    """Detection by cross-fitted models, which score only images of groups that they have not seen, and by files."""

    kind = "detection"
    accepts = Parameters

    def estimates(self, study: Study) -> list[Estimate]:
        """Rows per detector and view: all generated images, paradigms, generators; AUC and false alarms per source."""
        p = self.parameters
        found: list[Estimate] = []
        for view in p.views:
            for detector in self.detectors:
                scored = detector.under(study, view, [study.arm(view)], Division(p.repeats, p.folds, p.rates))[view]
                where = detecting.Where("detection", detector.name, view, detector.scorer(view), detector.trained_on)
                rows: list[Estimate] = []
                groups = detecting.groups(study.samples, p.min_images)
                for group in groups:
                    rows += detecting.figures(study, scored, where, group, p.rates)
                whole = [group for group in groups if group.generator is None]
                rows += detecting.against_sources(study, scored, where, whole, p.min_images)
                rows += detecting.false_alarms(study, scored, where, p.rates)
                found += detector.stamped(study, rows)
        return found
