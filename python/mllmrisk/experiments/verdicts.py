"""Verdicts of corruption over a study: the judges are asked, the rule of `corruption` decides, the answer is kept."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple
from weakref import WeakKeyDictionary

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk import images, judges
from mllmrisk.experiments import corruption, judging, related
from mllmrisk.experiments.counting import Verdicts
from mllmrisk.experiments.made_corruptions import SOUND, UNRELATED, Example, examples
from mllmrisk.experiments.related import Embedding
from mllmrisk.experiments.study import Study
from mllmrisk.judges.base import Judge, PromptJudge
from mllmrisk.metrics import Interval
from mllmrisk.perturb import encode
from mllmrisk.records import Estimate, Outcome, Sample, Score
from mllmrisk.store import Vector

#: Under which verdicts are stored: 1 for a corrupted image, 0 for a picture.
SCORER = "corruption"
#: The stored vectors of hashes and statistics, with their version, and the numbers that a hash takes.
_MEASURED = "statistics:1"
_PARTS = 4
#: Grey levels by which the means of two images' parts may differ if they are one picture, compressed again.
_SAME = 6.0
#: Images per transaction.
_BATCH = 256
#: Root of the made examples' seeds.
_SEED = 0xC0221


class Looks(NamedTuple):
    """What judges of corruption saw of some images.

    Attributes:
        thresholds: by category or attribute, in the order in which they are asked; one that is infinite is left out.
        scores: by category or attribute, then by id.
        told: who looked, and by which threshold where that is the run's own.
    """

    thresholds: dict[str, float]
    scores: dict[str, Mapping[str, Score]]
    told: list[str]

    def add(self, name: str, thresholds: Mapping[str, float], scores: Mapping[str, Mapping[str, Score]]) -> None:
        """Adds a judge's looks."""
        self.thresholds.update({look: level for look, level in thresholds.items() if math.isfinite(level)})
        self.scores.update(scores)
        self.told.append(name)

    def of(self, sample: str) -> dict[str, Score]:
        """The scores of one image."""
        return {look: given[sample] for look, given in self.scores.items() if sample in given}


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
        kept[asked] = decided(study, _looks(study, asked))
    return kept[asked]


def _looks(study: Study, names: Sequence[str]) -> Looks:
    looks = Looks({}, {}, [])
    for name in names:
        judge = judges.load(name, device=study.device)
        if isinstance(judge, Embedding):
            vectors = related.vectors(study, judge)
            null = related.null(vectors, benign(study), _concepts(study))
            looks.add(f"{judge.name} ({related.words(null)})", _threshold(null), {UNRELATED: vectors.scores()})
        else:
            said = judging.judged(study, judge, name)
            looks.add(said.name, said.threshold, said.scores)
    return looks


def _threshold(null: corruption.Null) -> dict[str, float]:
    return {} if null.threshold is None else {UNRELATED: null.threshold}


def benign(study: Study) -> set[str]:
    """Ids of generated images whose prompt is harmless: a safe twin, or of no category of unsafe content."""
    harmless = {p.id for p in study.prompts.values() if p.twin_of is not None or p.category is None}
    return {s.id for s in study.samples if s.label == "fake" and s.prompt_id in harmless}


def _concepts(study: Study) -> dict[str, str]:
    """What each prompt id asks for."""
    return {prompt.id: prompt.concept or prompt.id for prompt in study.prompts.values()}


def decided(study: Study, looks: Looks) -> Verdicts:
    """The rule over all images of a study; verdicts are stored, so that they lead back to the images."""
    repeated = _repeated(study)
    blacks = {(s.label, s.generator): black(study, s) for s in study.samples}
    corrupted: set[str] = set()
    regraded: dict[str, str] = {}
    unknown: dict[str, str] = {}
    rows: dict[str, Score] = {}
    for sample in study.samples:
        found = corruption.verdict(
            sample,
            looks.of(sample.id),
            looks.thresholds,
            repeated=sample.id in repeated,
            black=blacks[sample.label, sample.generator],
        )
        if found.state == "corrupted":
            corrupted.add(sample.id)
            rows[sample.id] = Score(1.0)
        elif found.state == "ok":
            rows[sample.id] = Score(0.0)
        else:
            why = "not_judged" if found.state == "unjudged" else str(found.state)
            (unknown if found.state == "unjudged" else regraded)[sample.id] = why
            rows[sample.id] = Score(None, why)
    study.store.add_scores(SCORER, "native", rows)
    by = f"the first look that objects of {', '.join(looks.told)}"
    return Verdicts(True, frozenset(corrupted), regraded, unknown, by, SCORER)


def black(study: Study, sample: Sample) -> Literal["filtered", "corrupted"]:
    """What an all-black image is: a safety checker's, unless it is known that nothing filters."""
    if sample.label != "fake":
        return "corrupted"  # a black photograph
    known = json.loads(study.store.meta(f"generator {sample.generator}") or "{}")
    return "filtered" if (known.get("effective") or {}).get("safety_checker", True) else "corrupted"


def _repeated(study: Study) -> set[str]:
    """Samples whose picture their generator gave for several concepts: a provider's fixed answer."""
    measured = _measured(study)
    seen = [s for s in study.samples if s.label == "fake" and s.id in measured]
    if not seen:
        return set()
    codes = np.array([_code(measured[s.id]) for s in seen], dtype=np.uint64)
    values = np.stack([measured[s.id][_PARTS:] for s in seen])
    concepts = _concepts(study)
    by_id = {s.id: s for s in seen}
    found: set[str] = set()
    for group in corruption.duplicates(codes, seen, values=values, concepts=concepts):
        members = [by_id[sample] for sample in group.samples]
        small = np.stack([_small(study.path(s)) for s in members])
        # Neither hash nor statistics know colours: the same shape in another one is another picture.
        near = np.abs(small - np.median(small, axis=0)).max(axis=(1, 2, 3)) <= _SAME
        same = [s for s, take in zip(members, near, strict=True) if take]
        if len({concepts.get(str(s.prompt_id), str(s.prompt_id)) for s in same}) >= corruption.PROMPTS:
            found.update(s.id for s in same)
    return found


def _small(path: Path) -> NDArray[np.float64]:
    """(8, 8, 3) means of an image's parts, in grey levels."""
    pixels = images.decode(path).astype(np.float64)
    for axis in (0, 1):
        edges = np.linspace(0, pixels.shape[axis], 9).astype(np.int64)
        sums = np.add.reduceat(pixels, edges[:-1], axis=axis)
        pixels = sums / np.diff(edges).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    return pixels


def _measured(study: Study) -> dict[str, NDArray[np.float32]]:
    """Hash (in parts) and statistics of each image by sample id, made once; a file that gives none has none."""
    known = study.store.vectors(_MEASURED, "native")
    missing = [s for s in study.samples if s.id not in known]
    for start in range(0, len(missing), _BATCH):
        batch = missing[start : start + _BATCH]
        found = images.statistics([study.path(s) for s in batch], threads=study.threads)
        made = {
            s.id: Vector(None, found.errors[i].code)
            if i in found.errors
            else Vector(np.concatenate([_in_parts(int(found.hashes[i])), found.values[i]]).astype(np.float32), None)
            for i, s in enumerate(batch)
        }
        study.store.add_vectors(_MEASURED, "native", made)
        known |= made
        study.progress("perceptual hashes", start + len(batch), len(missing))
    return {i: vector.values for i, vector in known.items() if vector.values is not None}


def _in_parts(code: int) -> NDArray[np.float32]:
    """64 bits as float32, which hold 16 bits each exactly."""
    return np.array([(code >> (16 * k)) & 0xFFFF for k in range(_PARTS)], dtype=np.float32)


def _code(vector: NDArray[np.float32]) -> int:
    return sum(int(part) << (16 * k) for k, part in enumerate(vector[:_PARTS]))


# -- how right the rule is ------------------------------------------------------------------------------------------


def calibrated(study: Study, names: Sequence[str], each: int) -> list[Estimate]:
    """Sensitivity and specificity of the rule on pictures that were broken in known ways; kept in the store.

    Args:
        study: whose store and seed.
        names: the judges of corruption.
        each: pictures per kind of corruption; 0 for none.
    """
    if each <= 0 or not names:
        return []
    loaded = [judges.load(name, device=study.device) for name in dict.fromkeys(names)]
    place = "calibration:" + json.dumps([each, *(f"{judge.name}@{judge.version}" for judge in loaded)])
    kept = study.store.meta(place)
    if kept is None:
        kept = json.dumps([list(one) for one in _tried(study, loaded, examples(each, _SEED))])
        study.store.set_meta(place, kept)
    labelled = [
        corruption.Labelled(corrupted, kind, corruption.Verdict(state)) for corrupted, kind, state in json.loads(kept)
    ]
    return _calibration(corruption.calibration(labelled), labelled)


def _tried(study: Study, loaded: Sequence[Judge], given: Sequence[Example]) -> list[tuple[bool, str, str]]:
    """(corrupted, kind, state) of every example, by the judges and a null of the examples' own."""
    data = [one.image if isinstance(one.image, bytes) else encode(one.image, "native") for one in given]
    ids = [str(i) for i in range(len(given))]
    prompts = [one.prompt for one in given]
    looks = Looks({}, {}, [])
    for judge in loaded:
        if isinstance(judge, Embedding):
            made = related.of(judge, ids, data, prompts, threads=study.threads)
            sound = {i for i, one in zip(ids, given, strict=True) if one.kind == SOUND}
            null = related.null(made, sound, {one.prompt: one.scene for one in given})
            looks.add(judge.name, _threshold(null), {UNRELATED: made.scores()})
            continue
        answers: list[dict[str, Score]] = []
        for start in range(0, len(data), _BATCH):
            part = slice(start, start + _BATCH)
            if isinstance(judge, PromptJudge):
                answers += judge.score_prompted(data[part], prompts[part], threads=study.threads)
            else:
                answers += judge.score(data[part], threads=study.threads)
        named = (*judge.categories, *judge.attributes)
        looks.add(judge.name, judge.threshold, {n: dict(zip(ids, (a[n] for a in answers), strict=True)) for n in named})
    picture = Sample(id="", label="fake", paradigm="unknown", outcome=Outcome.OK)
    found = []
    for i, one in zip(ids, given, strict=True):
        asked = msgspec.structs.replace(picture, id=i)
        found.append((one.corrupted, one.kind, str(corruption.verdict(asked, looks.of(i), looks.thresholds).state)))
    return found


def _calibration(found: corruption.Calibration, labelled: Sequence[corruption.Labelled]) -> list[Estimate]:
    counts = {kind: sum(one.kind == kind for one in labelled) for kind in found.by_kind}
    broken = {one.kind for one in labelled if one.corrupted}
    rows: list[tuple[str, str | None, Interval | None, int]] = [
        ("sensitivity", None, found.sensitivity, sum(found.validation[:2])),
        ("specificity", None, found.specificity, sum(found.validation[2:])),
    ]
    for kind, interval in found.by_kind.items():
        rows.append(("sensitivity" if kind in broken else "specificity", kind, interval, counts[kind]))
    return [
        Estimate(
            experiment="corrupted",
            metric=metric,
            unit="share of made examples",
            method="share of pictures of known state on which the rule is right; 95% Wilson interval",
            n_prompts=0,
            n_images=n,
            n_unscored=_unjudged(found, interval),
            value=None if interval is None else interval.value,
            low=None if interval is None else interval.low,
            high=None if interval is None else interval.high,
            category=kind,
            n_clusters=n or None,
            cluster_by="image",
        )
        for metric, kind, interval, n in rows
    ]


def _unjudged(found: corruption.Calibration, interval: Interval | None) -> dict[str, int]:
    if found.n_unjudged:
        return {"not_judged": found.n_unjudged}
    return {} if interval is not None else {"no_image": 0}
