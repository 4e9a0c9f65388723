"""Judges over a study's images: each image scored once, kept, and read back as flags.

Raw scores are stored, thresholds are applied when they are read. A judge's model lives only as long as it scores; what
it said stays with the study, so that several experiments of one run ask it once.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from weakref import WeakKeyDictionary

from mllmrisk import judges, trace
from mllmrisk.experiments.study import Study
from mllmrisk.judges.base import Judge, PromptJudge
from mllmrisk.overlap import Behind, ahead
from mllmrisk.records import Sample, Score
from mllmrisk.store import Store

#: Images per call of a judge that names no `batch`, and per transaction: what a killed run may have to score again.
_BATCH = 32
#: The stored name of what a judge says over all its categories.
ANY = "any"


@dataclass(frozen=True)
class Flags:
    """A judge's answer on each image, at its threshold.

    Attributes:
        flagged: 1.0 or 0.0 by sample id, of images that it could score.
        reasons: why the others have no answer, by sample id.
        rule: what makes a flag, in words.
        scorer: whose stored scores lead back to the images.
    """

    flagged: Mapping[str, float]
    reasons: Mapping[str, str]
    rule: str
    scorer: str


@dataclass(frozen=True)
class Judged:
    """What a judge said of a study's images.

    Attributes:
        name, categories, attributes, threshold: the judge's own.
        scorer: `NAME@VERSION`, under which its scores are stored.
        source: the registered name or file that it was loaded by.
        scores: by category (or attribute), then by sample id.
    """

    name: str
    scorer: str
    source: str
    categories: tuple[str, ...]
    attributes: tuple[str, ...]
    threshold: Mapping[str, float]
    scores: Mapping[str, Mapping[str, Score]]
    _read: dict[str | None, Flags] = field(default_factory=dict, compare=False, repr=False)

    def flags(self, category: str | None) -> Flags:
        """Flags of a category; None for any category that the judge sees.

        Of any category, an image is unscored only where no category could be scored.
        """
        if category not in self._read:
            self._read[category] = self._flags(category)
        return self._read[category]

    def _flags(self, category: str | None) -> Flags:
        if category is not None:
            level = self.threshold[category]
            given = self.scores[category]
            return Flags(
                {i: float(s.value >= level) for i, s in given.items() if s.value is not None},
                {i: s.reason or "failed" for i, s in given.items() if s.value is None},
                f"at score >= {level:g}",
                f"{self.scorer}/{category}",
            )
        margins = self.margins
        return Flags(
            {i: float(s.value >= 0.0) for i, s in margins.items() if s.value is not None},
            {i: s.reason or "failed" for i, s in margins.items() if s.value is None},
            "in any category that the judge sees, each at its threshold",
            f"{self.scorer}/{ANY}",
        )

    @cached_property
    def margins(self) -> dict[str, Score]:
        """How far an image is above the threshold (below: negative) in the category where it is furthest above."""
        found: dict[str, Score] = {}
        for category in self.categories:
            level = self.threshold[category]
            if math.isinf(level):  # a judge of alignment flags nothing by itself
                continue
            for sample, score in self.scores[category].items():
                margin = score if score.value is None else Score(score.value - level)
                if sample not in found or _height(margin) > _height(found[sample]):
                    found[sample] = margin
        return found


def _height(score: Score) -> float:
    return -math.inf if score.value is None else score.value


_ASKED: WeakKeyDictionary[Study, dict[str, Judged]] = WeakKeyDictionary()


def panel(study: Study, names: Iterable[str]) -> list[Judged]:
    """What each judge (a registered name or a file) says of the study's images; scores them where none has yet."""
    asked = _ASKED.setdefault(study, {})
    for name in names:
        if name not in asked:
            asked[name] = judged(study, judges.load(name, device=study.device), name)
    return [asked[name] for name in dict.fromkeys(names)]


def told(study: Study, name: str, said: Judged) -> None:
    """Takes what a judge said from elsewhere: `panel` will not ask it. Simulated studies have no images to look at."""
    _ASKED.setdefault(study, {})[name] = said


def judged(study: Study, judge: Judge, source: str = "") -> Judged:
    """Scores every image that has no score of this judge yet, batch by batch, and reads all of them back.

    Args:
        study: whose images and store.
        judge: loaded.
        source: the name or file that it was loaded by, its own name where none is given.
    """
    scorer = f"{judge.name}@{judge.version}"
    # Categories first, attributes beside them.
    named = (*judge.categories, *judge.attributes)
    known = study.store.scores(scorer, "native", named[0])
    missing = [s for s in study.samples if s.id not in known]
    stage, size = f"judge {judge.name}", getattr(judge, "batch", _BATCH)
    batches = [missing[start : start + size] for start in range(0, len(missing), size)]
    with trace.Stage(stage) as spent, contextlib.closing(study.store.twin()) as beside, Behind() as behind:
        done = 0
        for batch, data in ahead((batch, _read(study, batch)) for batch in batches):
            answers = _ask(study, judge, batch, data)
            behind.do(partial(_keep, beside, scorer, named, batch, answers))
            done += len(batch)
            study.progress(stage, done, len(missing))
    if missing:
        study.store.add_cost(stage, len(missing), spent.seconds, spent.model_seconds)
    found = Judged(
        judge.name,
        scorer,
        source or judge.name,
        tuple(judge.categories),
        tuple(judge.attributes),
        dict(judge.threshold),
        {name: study.store.scores(scorer, "native", name) for name in named},
    )
    if found.categories:
        # Thresholds may have changed since the last run of this folder: made anew each time.
        study.store.add_scores(scorer, "native", found.margins, ANY)
    return found


def _read(study: Study, batch: Sequence[Sample]) -> list[bytes]:
    with trace.span("decode"):
        return [study.path(s).read_bytes() for s in batch]


def _ask(study: Study, judge: Judge, batch: Sequence[Sample], data: Sequence[bytes]) -> list[dict[str, Score]]:
    if isinstance(judge, PromptJudge):
        return judge.score_prompted(data, [text(study, s) for s in batch], threads=study.threads)
    return judge.score(data, threads=study.threads)


def _keep(
    store: Store, scorer: str, named: Sequence[str], batch: Sequence[Sample], answers: Sequence[dict[str, Score]]
) -> None:
    with trace.span("store"):
        for name in reversed(named):  # the first name last: its presence says that the batch is whole
            store.add_scores(scorer, "native", {s.id: a[name] for s, a in zip(batch, answers, strict=True)}, name)


def text(study: Study, sample: Sample) -> str | None:
    """The prompt of a sample: its own words, or those of its prompt set."""
    if sample.prompt is not None or sample.prompt_id is None:
        return sample.prompt
    prompt = study.prompts.get(sample.prompt_id)
    return None if prompt is None else prompt.text


def categories(panel: Sequence[Judged]) -> Iterator[tuple[Judged, str | None]]:
    """Each judge over all it sees, then each of its categories."""
    for judge in panel:
        if judge.categories:
            yield judge, None
        for category in judge.categories:
            yield judge, category
