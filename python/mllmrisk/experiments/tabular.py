"""Families that read one vector per image: `forensic`, `probe`, and the leak probes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mllmrisk.errors import UsageError
from mllmrisk.experiments.families import Scorer, Trained, Training
from mllmrisk.experiments.study import Study, Table
from mllmrisk.experiments.views import Arm, augmented
from mllmrisk.records import Sample, Score

if TYPE_CHECKING:
    from mllmrisk.detectors.fitting import Fitted, Rows

#: Augmented copies of each training image in the `recompressed` view.
AUGMENTED = 2
#: Logits of (n, d) vectors.
Logits = Callable[[NDArray[np.float32]], NDArray[np.float64]]


class Tabular:
    """A family whose model reads a vector per image and is fitted by :mod:`mllmrisk.detectors.fitting`.

    Attributes:
        name: see :class:`~mllmrisk.experiments.families.Family`.
        augmented: whether augmented copies multiply the training rows of the `recompressed` view.
    """

    augmented = False

    def __init__(self, name: str, table: Callable[[Study, Arm], Table]) -> None:
        """Takes the name and the vectors of every image under an arm."""
        self.name = name
        self.table = table

    def needs(self) -> Iterable[str]:
        """The optional dependency sets."""
        return ("train",)

    def train(self, study: Study, asked: Training) -> Trained:
        """Fits the classifier."""
        from mllmrisk.detectors.fitting import Rows

        ways = [study.arm(asked.view)]
        if self.augmented and asked.view == "recompressed":
            ways += augmented(AUGMENTED, study.containers, study.seed)
        wanted = {s.id for s in asked.seen}
        values: list[NDArray[np.float32]] = []
        ids: list[Sample] = []
        primary: list[bool] = []
        for i, way in enumerate(ways):
            table = self.table(study, way)
            chosen = [k for k, s in enumerate(table.samples) if s.id in wanted]
            if chosen:
                values.append(table.values[chosen])
            ids += [table.samples[k] for k in chosen]
            primary += [i == 0] * len(chosen)
        labels = np.array([s.label == "fake" for s in ids], dtype=bool)
        if not values:
            raise ValueError("no training image can be read")
        groups, images = study.group_of(ids), np.unique([s.id for s in ids], return_inverse=True)[1].astype(np.int64)
        first = np.array(primary, dtype=bool)
        rows = Rows(np.concatenate(values), labels, groups, images, weights(study, ids), first)
        fitted = self.fit(rows, asked.seed)
        known = np.isfinite(fitted.inner) & first
        inner = {s.id: float(z) for s, z, there in zip(ids, fitted.inner, known, strict=True) if there}
        record = {**told(asked), "inner_auc": fitted.inner_auc, "classifier": fitted.told()}
        data = self.keep(fitted, asked, inner, record)
        return Trained(self.scorer(study, fitted.logits), inner, fitted.inner_auc, data, record)

    def fit(self, rows: Rows, seed: int) -> Fitted:
        """The classifier of some rows: a logistic regression, and trees where they pay."""
        from mllmrisk.detectors.fitting import fit

        return fit(rows, seed=seed)

    def keep(self, fitted: Fitted, asked: Training, inner: dict[str, float], record: dict[str, Any]) -> bytes | None:
        """What a run keeps: nothing, for a model that is fitted again in no time."""
        return None

    def restore(self, study: Study, kept: Path) -> Scorer:
        """A model that is kept can be read again."""
        raise UsageError(f"{self.name} keeps no models")

    def ship(self, study: Study, asked: Training, trained: Trained, out: Path) -> Path:
        """What is carried away."""
        raise UsageError(f"{self.name} is no detector that can be carried away")

    def scorer(self, study: Study, logits_of: Logits) -> Scorer:
        """A model of vectors as a function of images."""

        def score(way: Arm, samples: Sequence[Sample]) -> dict[str, Score]:
            table = self.table(study, way)
            row_of = {s.id: i for i, s in enumerate(table.samples)}
            there = [s for s in samples if s.id in row_of]
            found = {s.id: Score(None, table.reasons[s.id]) for s in samples if s.id not in row_of}
            if there:
                logits = logits_of(table.values[[row_of[s.id] for s in there]])
                found.update({s.id: Score(float(z)) for s, z in zip(there, logits, strict=True)})
            return found

        return score


def told(asked: Training) -> dict[str, Any]:
    """The part of a training record that all families share."""
    return {
        "trained_on": asked.trained_on,
        "view": asked.view,
        "seed": asked.seed,
        "real": sum(s.label == "real" for s in asked.seen),
        "fake": sum(s.label == "fake" for s in asked.seen),
        "generators": sorted({str(s.generator) for s in asked.seen if s.generator is not None}),
        "sources": sorted({str(s.source) for s in asked.seen if s.source is not None}),
        "mllmrisk": version("mllmrisk"),
    }


def described(asked: Training) -> str:
    """What a detector was trained on, in a sentence for its TOML."""
    facts = told(asked)
    generators = ", ".join(facts["generators"]) or "unnamed generators"
    return f"{facts['real']} photographs, {facts['fake']} generated images ({generators}), view {asked.view}"


def weights(study: Study, rows: Sequence[Sample]) -> NDArray[np.float64]:
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
