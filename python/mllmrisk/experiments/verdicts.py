"""Verdicts of corruption over a study: the judges are asked, the rule of `corruption` decides, the answer is kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from weakref import WeakKeyDictionary

from mllmrisk.experiments import corruption, judging
from mllmrisk.experiments.counting import Verdicts
from mllmrisk.experiments.judging import Judged
from mllmrisk.experiments.study import Study
from mllmrisk.records import Estimate, Outcome, Score

#: Under which verdicts are stored: 1 for a corrupted image, 0 for a picture.
SCORER = "corruption"

_REACHED: WeakKeyDictionary[Study, dict[tuple[str, ...], Verdicts]] = WeakKeyDictionary()


def verdicts(study: Study, names: Iterable[str]) -> Verdicts:
    """What the judges of corruption say of the study's images; without judges, nothing is known of corruption.

    Args:
        study: whose images.
        names: registered names or files, in the order in which their looks are taken.
    """
    asked = tuple(dict.fromkeys(names))
    if not asked:
        return Verdicts()
    kept = _REACHED.setdefault(study, {})
    if asked not in kept:
        kept[asked] = _reached(study, judging.panel(study, asked))
    return kept[asked]


def _reached(study: Study, panel: Sequence[Judged]) -> Verdicts:
    thresholds = {name: level for judge in panel for name, level in judge.threshold.items()}
    repeated = _repeated(study)
    corrupted: set[str] = set()
    regraded: dict[str, str] = {}
    unknown: dict[str, str] = {}
    rows: dict[str, Score] = {}
    for sample in study.samples:
        answers = {name: judge.scores[name][sample.id] for judge in panel for name in judge.scores}
        found = corruption.verdict(sample, answers, thresholds, repeated=sample.id in repeated)
        if found.state == "corrupted":
            corrupted.add(sample.id)
        elif found.state in (Outcome.REFUSED, Outcome.FILTERED):
            regraded[sample.id] = found.state
        elif found.state == "unjudged":
            unknown[sample.id] = found.reason or "unjudged"
        rows[sample.id] = (
            Score(None, found.reason or found.state)
            if found.state in ("unjudged", "refused", "filtered")
            else Score(float(found.state == "corrupted"))
        )
    study.store.add_scores(SCORER, "native", rows)
    by = f"the first look that objects of {', '.join(judge.name for judge in panel)}"
    return Verdicts(True, frozenset(corrupted), regraded, unknown, by, SCORER)


def _repeated(study: Study) -> set[str]:
    return set()


def calibrated(study: Study, names: Iterable[str], made: int) -> list[Estimate]:
    return []
