"""Judges over a study's images: each image scored once, kept, and read back as flags.

Raw scores are stored, thresholds are applied when they are read. A judge's model lives only as long as it scores; what
it said stays with the study, so that several experiments of one run ask it once.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from weakref import WeakKeyDictionary

from mllmrisk import judges, trace
from mllmrisk.executors.base import Place, Pool
from mllmrisk.experiments.study import Study
from mllmrisk.judges.base import Judge, PromptJudge
from mllmrisk.overlap import Behind
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
            with asking(study, name) as pool:
                asked[name] = _judged(study, pool, name)
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
    with study.here.pool(functools.partial(_Asked, judge), what=f"judge {judge.name!r}") as pool:
        return _judged(study, pool, source)


class Shown(NamedTuple):
    """A block of a judge: encoded images, each with its prompt where it has one."""

    images: list[bytes]
    prompts: Sequence[str | None]


#: For each image of a block, a score by category and attribute.
Answers = list[dict[str, Score]]


class About(NamedTuple):
    """What is known of a judge once it is loaded; see :class:`~mllmrisk.judges.base.Judge`."""

    name: str
    version: str
    categories: tuple[str, ...]
    attributes: tuple[str, ...]
    threshold: dict[str, float]
    reads_prompts: bool
    batch: int

    def unscored(self, block: Shown, reason: str) -> Answers:
        """No score, for one reason, of every image of a block."""
        return [dict.fromkeys((*self.categories, *self.attributes), Score(None, reason)) for _ in block.images]


class _Asked:
    """The stage that an executor runs: a loaded judge."""

    def __init__(self, judge: Judge | PromptJudge, place: Place) -> None:
        self._judge, self._threads = judge, place.threads
        self.facts = About(
            judge.name,
            judge.version,
            tuple(judge.categories),
            tuple(judge.attributes),
            dict(judge.threshold),
            isinstance(judge, PromptJudge),
            getattr(judge, "batch", _BATCH),
        )

    def __call__(self, block: Shown) -> Answers:
        if isinstance(self._judge, PromptJudge):
            return self._judge.score_prompted(block.images, block.prompts, threads=self._threads)
        return self._judge.score(block.images, threads=self._threads)

    def close(self) -> None:
        """A judge's model goes with it."""


def _loaded(name: str, place: Place) -> _Asked:
    return _Asked(judges.load(name, device=place.device), place)


def asking(study: Study, name: str) -> AbstractContextManager[Pool[Shown, Answers]]:
    """A judge by its registered name or file, loaded where the study's judges run; its facts are :class:`About`.

    Raises:
        UsageError, MissingExtraError: see :func:`mllmrisk.judges.load`.
    """
    executor = study.here if judges.stays_here(name) else study.executor
    if executor.remote and name.endswith(".toml"):
        name = str(Path(name).resolve())
    return executor.pool(functools.partial(_loaded, name), what=f"judge {name!r}")


def _judged(study: Study, pool: Pool[Shown, Answers], source: str) -> Judged:
    judge: About = pool.facts
    scorer = f"{judge.name}@{judge.version}"
    # Categories first, attributes beside them.
    named = (*judge.categories, *judge.attributes)
    known = study.store.scores(scorer, "native", named[0])
    missing = [s for s in study.samples if s.id not in known]
    stage, done = f"judge {judge.name}", 0
    batches = [missing[start : start + judge.batch] for start in range(0, len(missing), judge.batch)]
    prompts = [[text(study, s) for s in batch] for batch in batches]
    blocks = (_shown(study, batch, own) for batch, own in zip(batches, prompts, strict=True))

    def lost(block: Shown, reason: str) -> Answers:
        study.store.add_failures({f"judge {judge.name}, images that no worker survived": reason})
        return judge.unscored(block, reason)

    with trace.Stage(stage) as spent, contextlib.closing(study.store.twin()) as beside, Behind() as behind:
        for batch, answers in zip(batches, pool.map(blocks, lost), strict=True):
            behind.do(functools.partial(_keep, beside, scorer, named, batch, answers))
            done += len(batch)
            study.progress(stage, done, len(missing))
    if missing:
        study.store.add_cost(stage, len(missing), spent.seconds, spent.model_seconds)
    found = Judged(
        judge.name,
        scorer,
        source or judge.name,
        judge.categories,
        judge.attributes,
        judge.threshold,
        {name: study.store.scores(scorer, "native", name) for name in named},
    )
    if found.categories:
        # Thresholds may have changed since the last run of this folder: made anew each time.
        study.store.add_scores(scorer, "native", found.margins, ANY)
    return found


def _shown(study: Study, batch: Sequence[Sample], prompts: Sequence[str | None]) -> Shown:
    with trace.span("decode"):
        return Shown([study.path(s).read_bytes() for s in batch], prompts)


def _keep(store: Store, scorer: str, named: Sequence[str], batch: Sequence[Sample], answers: Answers) -> None:
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
