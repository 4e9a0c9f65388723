"""`detection`: how well detectors tell generated images from photographs, per paradigm and generator, per view."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np

from mllmrisk import detectors
from mllmrisk.detectors.base import Detector
from mllmrisk.errors import UsageError
from mllmrisk.experiments import detecting
from mllmrisk.experiments.base import WithParameters
from mllmrisk.experiments.crossfit import Plan, Scored, crossfit
from mllmrisk.experiments.recipes import TRAINED
from mllmrisk.experiments.study import Study
from mllmrisk.experiments.views import VIEWS, Arm
from mllmrisk.records import Estimate, Sample

#: Images per transaction.
_BATCH = 32


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite may set.

    Attributes:
        detectors: trained here (`forensic`) or files with weights of their own; empty for the profile's.
        views: under which container images are looked at; a model is trained and tested within one view.
        repeats, folds: divisions of the groups, and folds of each.
        rates: false-alarm rates of the detection rates.
        min_images: generators with fewer images have no rows of their own, and no figure is against a source of
            photographs that has fewer.
    """

    detectors: tuple[str, ...] = ()
    views: tuple[str, ...] = VIEWS
    repeats: int = 4
    folds: int = 3
    rates: tuple[float, ...] = (0.05, 0.01)
    min_images: int = 5


def plan(view: str, parameters: Parameters) -> Plan:
    """Trained on every generated image of the training folds."""
    return Plan(view, "all", lambda _: True, parameters.repeats, parameters.folds, parameters.rates)


class Detection(WithParameters[Parameters]):
    """Detection by cross-fitted models, which score only images of sources that they have not seen, and by files."""

    kind = "detection"
    accepts = Parameters
    photographs = True

    def __init__(self, parameters: Parameters) -> None:
        """Takes the suite's parameters; a detector that cannot be loaded is refused here, before any work."""
        super().__init__(parameters)
        self.trained = [TRAINED[name] for name in parameters.detectors if name in TRAINED]
        self.loaded = [detectors.load(name) for name in parameters.detectors if name not in TRAINED]
        if not self.trained and not self.loaded:
            raise UsageError("the profile names no detector")

    def estimates(self, study: Study) -> list[Estimate]:
        """Rows per detector and view: all generated images, paradigms, generators; AUC and false alarms per source."""
        found: list[Estimate] = []
        for view in self.parameters.views:
            way = study.arm(view)
            for recipe in self.trained:
                scored = crossfit(study, recipe, plan(view, self.parameters), [way])[view]
                where = detecting.Where("detection", recipe.name, view, f"{recipe.name}/{view}/all", "all")
                found += self._rows(study, scored, where)
            for detector in self.loaded:
                scorer = f"{detector.name}@{detector.version}"
                scored = score(study, detector, way, scorer, self.parameters.rates)
                rows = self._rows(study, scored, detecting.Where("detection", detector.name, view, scorer))
                found += _stamped(rows) if any((s.image or "")[:16] in detector.seen for s in study.samples) else rows
        return found

    def _rows(self, study: Study, scored: Scored, where: detecting.Where) -> list[Estimate]:
        p = self.parameters
        every = detecting.groups(study.samples, p.min_images)
        found: list[Estimate] = []
        for group in every:
            found += detecting.figures(study, scored, where, group, p.rates)
        whole = [group for group in every if group.generator is None]
        found += detecting.against_sources(study, scored, where, whole, p.min_images)
        return found + detecting.false_alarms(study, scored, where, p.rates)


def _stamped(rows: list[Estimate]) -> list[Estimate]:
    """Figures on images of which some were for training: they say little about others, and are stamped so."""
    return [msgspec.structs.replace(row, confounded=True, confounded_by=["training images"]) for row in rows]


def score(study: Study, detector: Detector, way: Arm, scorer: str, rates: Iterable[float]) -> Scored:
    """Scores of a detector with weights of its own, with the thresholds that its file carries."""
    known = study.store.scores(scorer, way.name)
    missing = [s for s in study.samples if s.id not in known]
    for start in range(0, len(missing), _BATCH):
        batch = missing[start : start + _BATCH]
        scores = detector.score(
            [study.path(s) for s in batch], chains=[way.chain(s) for s in batch], threads=study.threads
        )
        rows = {s.id: value for s, value in zip(batch, scores, strict=True)}
        study.store.add_scores(scorer, way.name, rows)
        known.update(rows)
        study.progress(f"{detector.name} ({way.name})", start + len(batch), len(missing))
    samples: list[Sample] = []
    values: list[float] = []
    reasons: dict[str, str] = {}
    for sample in study.samples:
        value, reason = known[sample.id].value, known[sample.id].reason
        if value is None:
            reasons[sample.id] = reason or "failed"
        else:
            samples.append(sample)
            values.append(value)
    logits = np.array(values, dtype=np.float64)
    set_ = {rate: logits - detector.thresholds[rate] for rate in rates if rate in detector.thresholds}
    undefined = {rate: "no_threshold_in_the_file" for rate in rates if rate not in detector.thresholds}
    return Scored(samples, logits, np.zeros(len(samples), dtype=np.int64), set_, undefined, reasons)
