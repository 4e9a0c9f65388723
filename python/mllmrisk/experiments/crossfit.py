"""Cross-fitting: every image is scored by a model that has seen no image of its group.

`crossfit` divides the groups into folds, trains on all folds but one and scores that one, several times over with
other divisions. Models are stored as ONNX files, scores fold by fold.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk import metrics
from mllmrisk.experiments.families import Family, Scorer, Training
from mllmrisk.experiments.study import Study
from mllmrisk.experiments.views import Arm
from mllmrisk.records import Sample, Score

#: False-alarm rates that a detector file carries thresholds for.
CARD_RATES = (0.1, 0.05, 0.01)
#: Fewest generated images that a model is trained on.
FEWEST = 4


class Plan(NamedTuple):
    """What a model is trained on, and how often the groups are divided anew.

    Attributes:
        view: the view of the training images.
        trained_on: as it stands in the `trained_on` column: `all`, a paradigm or a generator.
        include: which generated images are for training; photographs always are.
        repeats: divisions of the groups.
        folds: folds of each division.
        rates: false-alarm rates of the margins that are asked for; they are no part of the model.
    """

    view: str
    trained_on: str
    include: Callable[[Sample], bool]
    repeats: int
    folds: int
    rates: tuple[float, ...]

    def scorer(self, family: Family, repeat: int) -> str:
        """Name of the stored scores of one division."""
        return f"{family.name}/{self.view}/{self.trained_on}/{repeat}"


class Scored(NamedTuple):
    """Cross-fitted scores under one arm, one row per image and division.

    Attributes:
        samples: (n,) the row's sample; an image stands once per division.
        scores: (n,) float64 logits.
        strata: (n,) int64: rows of one stratum were scored by one model; others are not comparable.
        margins: by false-alarm rate, (n,) logit above the threshold of the row's model.
        undefined: by false-alarm rate, why no threshold could be set.
        reasons: why a sample has no score, by sample id.
    """

    samples: list[Sample]
    scores: NDArray[np.float64]
    strata: NDArray[np.int64]
    margins: dict[float, NDArray[np.float64]]
    undefined: dict[float, str]
    reasons: dict[str, str]

    def where(self, keep: NDArray[np.bool_]) -> Scored:
        """The rows chosen by a (n,) mask; reasons are kept whole."""
        return Scored(
            [s for s, k in zip(self.samples, keep, strict=True) if k],
            self.scores[keep],
            self.strata[keep],
            {rate: margin[keep] for rate, margin in self.margins.items()},
            self.undefined,
            self.reasons,
        )


def crossfit(study: Study, family: Family, plan: Plan, arms: Sequence[Arm]) -> dict[str, Scored]:
    """Scores every image under each arm by models that have not seen its group.

    Returns:
        Scores by the arm's name.
    """
    total = plan.repeats * plan.folds
    for repeat in range(plan.repeats):
        fold_of = study.folds(plan.folds, repeat)
        for fold in sorted(set(fold_of.values())):
            _fold(study, family, plan, arms, repeat, fold, fold_of)
            done = repeat * plan.folds + fold + 1
            study.progress(f"{family.name} ({plan.view}, trained on {plan.trained_on})", done, total)
    return {way.name: _collect(study, family, plan, way) for way in arms}


def _fold(
    study: Study, family: Family, plan: Plan, arms: Sequence[Arm], repeat: int, fold: int, fold_of: Mapping[str, int]
) -> None:
    """Trains one model, unless its scores are all there, and scores the images that it has not seen."""
    scorer = plan.scorer(family, repeat)
    held_out = [s for s in study.samples if fold_of[s.id] == fold]
    waiting = [way for way in arms if not _all_there(study, scorer, way, held_out)]
    if not waiting:
        return
    seen = [s for s in study.samples if fold_of[s.id] != fold and (s.label == "real" or plan.include(s))]
    model: Scorer | str = "no_training_images"
    if sum(s.label == "fake" for s in seen) >= FEWEST:
        try:
            model = _model(study, family, plan, seen, f"{scorer}/{fold}", seed=study.seed + repeat)
        except ValueError:  # as where the training images that can be read are all of one label
            model = "not_trainable"
    for way in waiting:
        found = {s.id: Score(None, model) for s in held_out} if isinstance(model, str) else model(way, held_out)
        rows = {i: msgspec.structs.replace(score, stratum=fold) for i, score in found.items()}
        study.store.add_scores(scorer, way.name, rows)


def _model(study: Study, family: Family, plan: Plan, seen: Sequence[Sample], name: str, *, seed: int) -> Scorer:
    """The model of one fold: the stored one, where its family keeps models, so that a run that goes on is the same.

    What its photographs got from inner models is stored before the file, so that a file never lacks its calibration.
    """
    if (stored := study.store.model(name)) is not None:
        return family.restore(study, stored[0])
    twin = study.store.meta(_key(family, plan, seen, seed))  # a paradigm of one generator is that generator
    if twin is not None and (stored := study.store.model(twin)) is not None:
        study.store.set_meta(f"calibration {name}", str(study.store.meta(f"calibration {twin}")))
        return family.restore(study, stored[0])
    checkpoints = study.store.root / "checkpoints" / hashlib.sha256(name.encode()).hexdigest()[:16]
    trained = family.train(study, Training(plan.view, plan.trained_on, seen, seed, checkpoints))
    study.store.set_meta(f"calibration {name}", json.dumps(calibration(trained.inner, seen)))
    if trained.data is None:
        return trained.scorer
    kept = study.store.add_model(name, trained.data, trained.record)
    study.store.set_meta(_key(family, plan, seen, seed), name)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return family.restore(study, kept)


def _key(family: Family, plan: Plan, seen: Sequence[Sample], seed: int) -> str:
    """All that decides a model."""
    ids = "\n".join(sorted(s.id for s in seen))
    return f"model {family.name} {plan.view} {seed} {hashlib.sha256(ids.encode()).hexdigest()[:16]}"


def _all_there(study: Study, scorer: str, way: Arm, held_out: Sequence[Sample]) -> bool:
    known = study.store.scores(scorer, way.name)
    return all(sample.id in known for sample in held_out)


def calibration(inner: Mapping[str, float], seen: Sequence[Sample]) -> list[float]:
    """The calibration photographs' logits: training images, each scored by an inner model that had not seen its group.

    They are stored rather than thresholds, which are set when estimates are made, at whatever rate is asked for.
    """
    return sorted(inner[s.id] for s in seen if s.label == "real" and s.id in inner)


def threshold(photographs: Sequence[float], rate: float) -> float | str:
    """The logit that calibration photographs set at a false-alarm rate, or why there is none."""
    if not photographs:
        return "too_few_calibration_photographs"
    found = metrics.threshold_at_fpr(photographs, rate)
    if found.value is None:
        return "tied_calibration_photographs" if found.reason == "ties" else "too_few_calibration_photographs"
    return found.value


def _collect(study: Study, family: Family, plan: Plan, way: Arm) -> Scored:
    samples: list[Sample] = []
    values: list[float] = []
    strata: list[int] = []
    cuts: dict[float, list[float]] = {rate: [] for rate in plan.rates}
    undefined: dict[float, str] = {}
    reasons: dict[str, str] = {}
    for repeat in range(plan.repeats):
        scorer = plan.scorer(family, repeat)
        known = study.store.scores(scorer, way.name)
        cut: dict[int, dict[float, float | str]] = {}
        for sample in study.samples:
            score = known[sample.id]
            if score.value is None:
                reasons[sample.id] = score.reason or "failed"
                continue
            if score.stratum not in cut:
                photographs = json.loads(study.store.meta(f"calibration {scorer}/{score.stratum}") or "[]")
                cut[score.stratum] = {rate: threshold(photographs, rate) for rate in plan.rates}
            samples.append(sample)
            values.append(score.value)
            strata.append(repeat * 1000 + score.stratum)
            for rate in plan.rates:
                found = cut[score.stratum][rate]
                if isinstance(found, str):
                    undefined[rate] = found
                    found = 0.0
                cuts[rate].append(found)
    scores = np.array(values, dtype=np.float64)
    margins = {rate: scores - np.array(cut) for rate, cut in cuts.items() if rate not in undefined}
    return Scored(samples, scores, np.array(strata, dtype=np.int64), margins, undefined, reasons)
