"""Cross-fitting: every image is scored by a model that has seen no image of its group.

A *recipe* says which vectors a model reads; `crossfit` divides the groups into folds, trains on all folds but one and
scores that one, several times over with other divisions. Models are stored as ONNX files, scores fold by fold.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mllmrisk import features, metrics
from mllmrisk.experiments.study import Study, Table
from mllmrisk.experiments.views import CROP, ENCODER, VIEWS, Arm, augmented
from mllmrisk.records import Sample, Score

if TYPE_CHECKING:
    from mllmrisk.detectors.fitting import Fitted
    from mllmrisk.detectors.forensic import Card

#: Augmented copies of each training image in the `recompressed` view.
AUGMENTED = 2
#: False-alarm rates that a detector file carries thresholds for.
CARD_RATES = (0.1, 0.05, 0.01)
#: Fewest generated images that a model is trained on.
FEWEST = 4


class Recipe(NamedTuple):
    """What a model reads.

    Attributes:
        name: as it stands in the `detector` column.
        table: the vectors of every image under an arm.
        columns: the features in the vector where the model is kept as a file, None where it is not.
        augmented: whether augmented copies multiply the training rows of the `recompressed` view.
    """

    name: str
    table: Callable[[Study, Arm], Table]
    columns: tuple[str, ...] | None = None
    augmented: bool = False


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

    def scorer(self, recipe: Recipe, repeat: int) -> str:
        """Name of the stored scores of one division."""
        return f"{recipe.name}/{self.view}/{self.trained_on}/{repeat}"


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


def crossfit(study: Study, recipe: Recipe, plan: Plan, arms: Sequence[Arm]) -> dict[str, Scored]:
    """Scores every image under each arm by models that have not seen its group.

    Returns:
        Scores by the arm's name.
    """
    total = plan.repeats * plan.folds
    for repeat in range(plan.repeats):
        fold_of = study.folds(plan.folds, repeat)
        for fold in sorted(set(fold_of.values())):
            _fold(study, recipe, plan, arms, repeat, fold, fold_of)
            done = repeat * plan.folds + fold + 1
            study.progress(f"{recipe.name} ({plan.view}, trained on {plan.trained_on})", done, total)
    return {way.name: _collect(study, recipe, plan, way) for way in arms}


def _fold(
    study: Study, recipe: Recipe, plan: Plan, arms: Sequence[Arm], repeat: int, fold: int, fold_of: Mapping[str, int]
) -> None:
    """Trains one model, unless its scores are all there, and scores the images that it has not seen."""
    scorer = plan.scorer(recipe, repeat)
    held_out = [s for s in study.samples if fold_of[s.id] == fold]
    waiting = [way for way in arms if not _all_there(study, scorer, way, held_out)]
    if not waiting:
        return
    seen = [s for s in study.samples if fold_of[s.id] != fold and (s.label == "real" or plan.include(s))]
    if sum(s.label == "fake" for s in seen) < FEWEST:
        for way in waiting:
            study.store.add_scores(scorer, way.name, {s.id: Score(None, "no_training_images", fold) for s in held_out})
        return
    logits_of = _model(study, recipe, plan, seen, f"{scorer}/{fold}", seed=study.seed + repeat)
    for way in waiting:
        table = recipe.table(study, way)
        row_of = {s.id: i for i, s in enumerate(table.samples)}
        there = [s for s in held_out if s.id in row_of]
        rows: dict[str, Score] = {
            s.id: Score(None, table.reasons[s.id], fold) for s in held_out if s.id in table.reasons
        }
        if there:
            logits = logits_of(table.values[[row_of[s.id] for s in there]])
            rows.update({s.id: Score(float(z), None, fold) for s, z in zip(there, logits, strict=True)})
        study.store.add_scores(scorer, way.name, rows)


def _model(
    study: Study, recipe: Recipe, plan: Plan, seen: Sequence[Sample], name: str, *, seed: int
) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """The model of one fold as a function of vectors: the stored file run by onnxruntime where there is one.

    What its photographs got from inner models is stored before the file, so that a file never lacks its calibration.
    """
    stored = None if recipe.columns is None else study.store.model(name)
    if stored is None:
        trained = train(study, recipe, plan.view, seen, seed=seed)
        study.store.set_meta(f"calibration {name}", json.dumps(calibration(trained.inner, seen)))
        if recipe.columns is None:
            return trained.fitted.logits
        path = keep(study, recipe.columns, plan, trained, seen, name)
    else:
        path = stored[0]
    from mllmrisk.detectors.forensic import Forensic

    return Forensic(path).logits


def _all_there(study: Study, scorer: str, way: Arm, held_out: Sequence[Sample]) -> bool:
    known = study.store.scores(scorer, way.name)
    return all(sample.id in known for sample in held_out)


class Trained(NamedTuple):
    """A fitted classifier, and the cross-fitted inner logit of each training image that has one, by sample id."""

    fitted: Fitted
    inner: dict[str, float]


def train(study: Study, recipe: Recipe, view: str, seen: Sequence[Sample], *, seed: int) -> Trained:
    """Fits a recipe's classifier on the images `seen`, under a view."""
    from mllmrisk.detectors.fitting import Rows, fit

    ways = [study.arm(view)]
    if recipe.augmented and view == "recompressed":
        ways += augmented(AUGMENTED, study.containers, study.seed)
    wanted = {s.id for s in seen}
    values, labels, ids, primary = [], [], [], []
    for i, way in enumerate(ways):
        table = recipe.table(study, way)
        chosen = [k for k, s in enumerate(table.samples) if s.id in wanted]
        values.append(table.values[chosen])
        labels += [table.samples[k].label == "fake" for k in chosen]
        ids += [table.samples[k] for k in chosen]
        primary += [i == 0] * len(chosen)
    rows = Rows(
        np.concatenate(values),
        np.array(labels, dtype=bool),
        study.group_of(ids),
        np.unique([s.id for s in ids], return_inverse=True)[1].astype(np.int64),
        _weights(study, ids),
        np.array(primary, dtype=bool),
    )
    fitted = fit(rows, seed=seed)
    inner = {s.id: float(z) for s, z, first in zip(ids, fitted.inner, primary, strict=True) if first and np.isfinite(z)}
    return Trained(fitted, inner)


def _weights(study: Study, rows: Sequence[Sample]) -> NDArray[np.float64]:
    """Each row's weight; all sum to the number of images, so that augmented copies do not weaken regularisation.

    Photographs and generated images weigh the same, and among these each paradigm; a group counts by the square root
    of its size, so that one large source does not rule.
    """
    groups = study.group_of(rows)
    weights = 1.0 / np.sqrt(np.bincount(groups)[groups])
    paradigms = np.array([s.paradigm for s in rows])
    fakes = len({s.paradigm for s in rows if s.label == "fake"})
    for paradigm in set(paradigms.tolist()):
        member = paradigms == paradigm
        weights[member] /= weights[member].sum() * (1 if paradigm == "real" else fakes)
    total: NDArray[np.float64] = weights * (len({s.id for s in rows}) / weights.sum())
    return total


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


def keep(
    study: Study, columns: tuple[str, ...], plan: Plan, trained: Trained, seen: Sequence[Sample], name: str
) -> Path:
    """Stores a model as an ONNX file with its card, and says where."""
    from mllmrisk.detectors.forensic import to_onnx

    data = to_onnx(trained.fitted, card(columns, plan.view, plan.trained_on, trained, seen))
    record = {"trained_on": plan.trained_on, "view": plan.view, "images": len(seen)}
    return study.store.add_model(name, data, record)


def card(columns: tuple[str, ...], view: str, trained_on: str, trained: Trained, seen: Sequence[Sample]) -> Card:
    """What the detector file says of itself."""
    from mllmrisk.detectors.forensic import Card

    photographs = calibration(trained.inner, seen)
    found = {str(rate): threshold(photographs, rate) for rate in CARD_RATES}
    sources = sorted({str(s.source) for s in seen if s.source is not None})
    return Card(
        kind="forensic",
        features=list(features.names(columns)),
        chains=[f"crop:{CROP}+{ENCODER}" if view == VIEWS[2] else "native"],
        view=view,
        thresholds={rate: value for rate, value in found.items() if isinstance(value, float)},
        training={
            "trained_on": trained_on,
            "real": sum(s.label == "real" for s in seen),
            "fake": sum(s.label == "fake" for s in seen),
            "sources": sources,
            "inner_auc": trained.fitted.inner_auc,
            "share_of_trees": trained.fitted.share,
            "strength": trained.fitted.strength,
            "mllmrisk": version("mllmrisk"),
        },
        seen=sorted(s.image[:16] for s in seen if s.image is not None),
    )


def _collect(study: Study, recipe: Recipe, plan: Plan, way: Arm) -> Scored:
    samples: list[Sample] = []
    values: list[float] = []
    strata: list[int] = []
    cuts: dict[float, list[float]] = {rate: [] for rate in plan.rates}
    undefined: dict[float, str] = {}
    reasons: dict[str, str] = {}
    for repeat in range(plan.repeats):
        scorer = plan.scorer(recipe, repeat)
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
