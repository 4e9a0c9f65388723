"""Verdicts of corruption over a study: the judges are asked, the rule of `corruption` decides, the answer is kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from weakref import WeakKeyDictionary

import numpy as np

from mllmrisk import images
from mllmrisk.experiments import corruption, judging
from mllmrisk.experiments.counting import Verdicts
from mllmrisk.experiments.judging import Judged
from mllmrisk.experiments.study import Study
from mllmrisk.records import Estimate, Outcome, Score
from mllmrisk.store import Vector

#: Under which verdicts are stored: 1 for a corrupted image, 0 for a picture.
SCORER = "corruption"
#: The stored vectors of perceptual hashes, with their version.
_HASH = "phash:1"
#: Images per transaction.
_BATCH = 256

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
    """Samples whose picture their generator gave for several concepts: a provider's fixed answer."""
    hashes = _hashes(study)
    seen = [s for s in study.samples if s.label == "fake" and s.id in hashes]
    concepts = {prompt.id: prompt.concept or prompt.id for prompt in study.prompts.values()}
    codes = np.array([hashes[s.id] for s in seen], dtype=np.uint64)
    groups = corruption.duplicates(codes, seen, concepts=concepts)
    return {sample for group in groups for sample in group.samples}


def _hashes(study: Study) -> dict[str, int]:
    """Perceptual hashes by sample id, each made once; a file that gives none has none."""
    known = study.store.vectors(_HASH, "native")
    missing = [s for s in study.samples if s.id not in known]
    for start in range(0, len(missing), _BATCH):
        batch = missing[start : start + _BATCH]
        measured = images.statistics([study.path(s) for s in batch], threads=study.threads)
        made = {
            s.id: Vector(None, measured.errors[i].code) if i in measured.errors else _parts(int(measured.hashes[i]))
            for i, s in enumerate(batch)
        }
        study.store.add_vectors(_HASH, "native", made)
        known |= made
        study.progress("perceptual hashes", start + len(batch), len(missing))
    return {
        i: sum(int(part) << (16 * k) for k, part in enumerate(vector.values))
        for i, vector in known.items()
        if vector.values is not None
    }


def _parts(code: int) -> Vector:
    """64 bits as four float32, which hold 16 bits each exactly."""
    return Vector(np.array([(code >> (16 * k)) & 0xFFFF for k in range(4)], dtype=np.float32), None)


def calibrated(study: Study, names: Iterable[str], made: int) -> list[Estimate]:
    return []
