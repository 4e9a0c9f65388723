"""The detectors that experiments look at, trained here or with weights of their own, behind one interface."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
import numpy as np

from mllmrisk import detectors, trace
from mllmrisk.detectors.base import Captioning, Detector, Streaming
from mllmrisk.errors import UsageError
from mllmrisk.executors.base import Build, Executor, Place, Pool
from mllmrisk.experiments import families
from mllmrisk.experiments.base import WithParameters
from mllmrisk.experiments.crossfit import Plan, Scored, crossfit, threshold
from mllmrisk.experiments.families import Family
from mllmrisk.experiments.study import Study
from mllmrisk.experiments.views import Arm
from mllmrisk.overlap import Behind
from mllmrisk.records import Estimate, Sample, Score
from mllmrisk.store import Store

#: Images per transaction.
_BATCH = 32


class Division(NamedTuple):
    """How groups are divided, and at which false-alarm rates thresholds are set on photographs of other groups."""

    repeats: int
    folds: int
    rates: tuple[float, ...]


class Examined(Protocol):
    """A detector under examination.

    Attributes:
        name: the `detector` column.
        trained_on: the `trained_on` column; None where it was trained elsewhere.
    """

    name: str
    trained_on: str | None

    def under(self, study: Study, view: str, arms: Sequence[Arm], division: Division) -> dict[str, Scored]:
        """Scores under each arm, by its name; models and thresholds come from the view and are carried to all arms."""
        ...

    def scorer(self, view: str) -> str:
        """What evidence calls its stored scores."""
        ...

    def stamped(self, study: Study, rows: list[Estimate]) -> list[Estimate]:
        """The rows, marked where the detector has seen some of these images in training."""
        ...


class TrainedHere:
    """A family, trained on the images of the run and cross-fitted."""

    trained_on: str | None = "all"

    def __init__(self, family: Family) -> None:
        """Takes the family."""
        self.family = family
        self.name = family.name

    def under(self, study: Study, view: str, arms: Sequence[Arm], division: Division) -> dict[str, Scored]:
        """Every image scored by models that have not seen its group, trained on all generators."""
        asked = Plan(view, "all", lambda _: True, division.repeats, division.folds, division.rates)
        return crossfit(study, self.family, asked, arms)

    def scorer(self, view: str) -> str:
        """The divisions' common name."""
        return f"{self.name}/{view}/{self.trained_on}"

    def stamped(self, study: Study, rows: list[Estimate]) -> list[Estimate]:
        """The rows as they are: no model scores what it was trained on."""
        return rows


class _Block(NamedTuple):
    """Images (paths in this process, encoded bytes elsewhere), each with its perturbation chain."""

    images: Sequence[Path | bytes]
    chains: list[str]


class _Parts(NamedTuple):
    """A block as the model of a :class:`~mllmrisk.detectors.base.Streaming` detector takes it."""

    parts: list[Any]


#: Each image's score, and the caption behind it where the detector makes one.
_Found = list[tuple[Score, str | None]]


class _Look:
    """The stage that an executor runs: a loaded detector; its fact is its version."""

    def __init__(self, detector: Detector, place: Place) -> None:
        self._detector, self._threads = detector, place.threads
        self.facts = detector.version

    def prepared(self, block: _Block) -> _Block | _Parts:
        """The input of the detector's model, where it is made apart from it."""
        if isinstance(self._detector, Captioning) or not isinstance(self._detector, Streaming):
            return block
        return _Parts(list(self._detector.parts(block.images, chains=block.chains, threads=self._threads)))

    def __call__(self, block: _Block | _Parts) -> _Found:
        if isinstance(block, _Parts):
            assert isinstance(self._detector, Streaming)
            return [(score, None) for score in self._detector.scored(block.parts)]
        if isinstance(self._detector, Captioning):
            return self._detector.captioned(block.images, chains=block.chains, threads=self._threads)
        scores = self._detector.score(block.images, chains=block.chains, threads=self._threads)
        return [(score, None) for score in scores]

    def close(self) -> None:
        """A detector's model goes with it."""


def _look(name: str, place: Place) -> _Look:
    return _Look(detectors.load(name, device=place.device), place)


class Loaded:
    """A detector with weights of its own."""

    trained_on: str | None = None

    def __init__(self, detector: Detector, source: str | None = None) -> None:
        """Takes the detector, ready to score, and the name or file by which other machines can load it."""
        self.detector = detector
        self.source = source
        self.name = detector.name
        self.decision: float = getattr(detector, "decision", 0.0)  # outside packages may leave it out

    def under(self, study: Study, view: str, arms: Sequence[Arm], division: Division) -> dict[str, Scored]:
        """Each image once.

        A threshold is the file's own where it carries one for the rate; elsewhere photographs of the other folds set
        it, under the view.
        """
        fold_of = study.folds(division.folds, 0)
        with contextlib.ExitStack() as stack:
            pool = functools.cache(lambda: stack.enter_context(self._pool(study)))  # one for all arms, if there is work
            known = {way.name: self._scores(study, way, pool) for way in (study.arm(view), *arms)}
        cuts = {rate: self._cuts(known[view], study.samples, fold_of, rate) for rate in division.rates}
        return {way.name: self._scored(study.samples, known[way.name], fold_of, cuts) for way in arms}

    def _cuts(
        self, known: dict[str, Score], samples: Sequence[Sample], fold_of: dict[str, int], rate: float
    ) -> dict[int, float | str]:
        folds = sorted(set(fold_of.values()))
        if rate in self.detector.thresholds:
            return dict.fromkeys(folds, self.detector.thresholds[rate])
        real = [s for s in samples if s.label == "real"]
        found: dict[int, float | str] = {}
        for fold in folds:
            values = [z for s in real if fold_of[s.id] != fold and (z := known[s.id].value) is not None]
            found[fold] = threshold(sorted(values), rate)
        return found

    def _scored(
        self,
        samples: Sequence[Sample],
        known: dict[str, Score],
        fold_of: dict[str, int],
        cuts: dict[float, dict[int, float | str]],
    ) -> Scored:
        there = [s for s in samples if known[s.id].value is not None]
        reasons = {s.id: known[s.id].reason or "failed" for s in samples if known[s.id].value is None}
        logits = np.array([known[s.id].value for s in there], dtype=np.float64)
        undefined = {rate: cut for rate, by_fold in cuts.items() for cut in by_fold.values() if isinstance(cut, str)}
        margins = {
            rate: logits - np.array([by_fold[fold_of[s.id]] for s in there], dtype=np.float64)
            for rate, by_fold in cuts.items()
            if rate not in undefined
        }
        # From its author's decision, so that 0 is the border between real and fake as it is for calibrated logits.
        return Scored(there, logits - self.decision, np.zeros(len(there), dtype=np.int64), margins, undefined, reasons)

    def _scores(self, study: Study, way: Arm, pool: Callable[[], Pool[_Block, _Found]]) -> dict[str, Score]:
        """Stored scores, those that are missing made first, batch by batch."""
        scorer = self.scorer(way.name)
        known = study.store.scores(scorer, way.name)
        missing = [s for s in study.samples if s.id not in known]
        if not missing:
            return known
        batches = [missing[start : start + _BATCH] for start in range(0, len(missing), _BATCH)]
        # Chains may ask the store, which belongs to this thread: files alone are read when their block's turn comes.
        chains = [[way.chain(s) for s in batch] for batch in batches]
        blocks = (self._block(study, batch, own) for batch, own in zip(batches, chains, strict=True))
        done, stage = 0, f"detect {self.name}"
        lost = functools.partial(self._lost, study)
        with trace.Stage(stage) as spent, contextlib.closing(study.store.twin()) as beside, Behind() as behind:
            for batch, found in zip(batches, pool().map(blocks, lost), strict=True):
                rows = {s.id: score for s, (score, _) in zip(batch, found, strict=True)}
                read = {s.id: text for s, (_, text) in zip(batch, found, strict=True) if text is not None}
                behind.do(functools.partial(_keep, beside, scorer, way.name, rows, read))
                known.update(rows)
                done += len(batch)
                study.progress(f"{self.name} ({way.name})", done, len(missing))
        study.store.add_cost(stage, len(missing), spent.seconds, spent.model_seconds)
        return known

    @contextlib.contextmanager
    def _pool(self, study: Study) -> Iterator[Pool[_Block, _Found]]:
        """The detector where the study's detectors run: the one that was tried here, or the same one elsewhere."""
        build: Build[_Block, _Found] = functools.partial(_Look, self.detector)
        executor = self._executor(study)
        if executor.remote and self.source is not None:
            file = Path(self.source)
            build = functools.partial(_look, str(file.resolve()) if file.is_file() else self.source)
        with executor.pool(build, what=f"detector {self.name!r}") as pool:
            if pool.facts != self.detector.version:
                raise UsageError(
                    f"detector {self.name!r}: version {self.detector.version} here and {pool.facts} on the workers: "
                    "are its weights the same on all machines?"
                )
            yield pool

    def _executor(self, study: Study) -> Executor:
        return study.here if self.source is None or detectors.stays_here(self.source) else study.executor

    def _block(self, study: Study, batch: Sequence[Sample], chains: list[str]) -> _Block:
        paths = [study.path(s) for s in batch]
        return _Block([path.read_bytes() for path in paths] if self._executor(study).remote else paths, chains)

    def _lost(self, study: Study, block: _Block, reason: str) -> _Found:
        study.store.add_failures({f"detector {self.name}, images that no worker survived": reason})
        return [(Score(None, reason), None)] * len(block.images)

    def scorer(self, view: str) -> str:
        """Its name and the digest of its weights."""
        return f"{self.name}@{self.detector.version}"

    def stamped(self, study: Study, rows: list[Estimate]) -> list[Estimate]:
        """Figures on images of which some were for training say little about others, and are marked so."""
        if not any((s.image or "")[:16] in self.detector.seen for s in study.samples):
            return rows
        return [msgspec.structs.replace(row, confounded=True, confounded_by=["training images"]) for row in rows]


def _keep(store: Store, scorer: str, view: str, rows: dict[str, Score], read: dict[str, str]) -> None:
    with trace.span("store"):
        if read:
            store.add_captions(scorer, view, read)
        store.add_scores(scorer, view, rows)


#: A struct with `detectors` and `device`, which the plan fills from the profile and the call.
P = TypeVar("P", bound=Any)


class LooksAtDetectors(WithParameters[P]):
    """An experiment that looks at every detector of the profile, against photographs."""

    photographs = True

    def __init__(self, parameters: P) -> None:
        """Takes the suite's parameters; a detector that cannot be loaded is refused here, before any work."""
        super().__init__(parameters)
        self.detectors = load(parameters.detectors, parameters.device)

    def needs(self) -> Iterable[str]:
        """The optional dependency sets of the families."""
        return needs(self.detectors)

    def absent(self) -> str | None:
        """Nothing can be said without a detector."""
        return absent(self.detectors)


def load(names: Sequence[str], device: str = "auto") -> list[Examined]:
    """The detectors of some names: families, registered names or files, each tried before any work.

    Raises:
        UsageError: a detector that is not there or cannot be trusted.
        MissingExtraError: one needs a package that is not installed.
    """
    return [TrainedHere(families.load(name)) if families.is_family(name) else _loaded(name, device) for name in names]


@functools.lru_cache(maxsize=32)
def _loaded(name: str, device: str) -> Loaded:
    """A detector with weights of its own: loaded once for all experiments of a run."""
    return Loaded(detectors.load(name, device=device), name)


def needs(found: Sequence[Examined]) -> Iterable[str]:
    """The optional dependency sets of experiments that train the families among some detectors."""
    return dict.fromkeys(extra for one in found if isinstance(one, TrainedHere) for extra in one.family.needs())


def absent(found: Sequence[Examined]) -> str | None:
    """What a profile lacks that names no detector."""
    return None if found else "the profile names no detector"
