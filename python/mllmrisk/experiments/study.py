"""A run's images with everything that experiments ask of them, each made once and kept in the store.

Vectors (features, container facts, thumbnails) and scores are written batch by batch, so that a run that was killed
goes on where it stood and does no scored work twice.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mllmrisk import executors, features, images, perturb
from mllmrisk.detectors.encoders.base import Encoder
from mllmrisk.errors import ImageError
from mllmrisk.executors.base import Executor
from mllmrisk.experiments import duplicates, probes, splits
from mllmrisk.experiments.views import Arm, arm
from mllmrisk.images import Container
from mllmrisk.records import Outcome, Sample
from mllmrisk.store import Store, Vector

Progress = Callable[[str, int, int], None]

#: Images per transaction: what a killed run may have to do again.
_BATCH = 32
#: Views from which their number is told, not their names.
_NAMED = 3


class Table(NamedTuple):
    """Vectors of those samples that have one.

    Attributes:
        samples: the n samples that are in the table, in the study's order.
        values: (n, d) float32.
        reasons: why each other sample has none, by sample id.
    """

    samples: list[Sample]
    values: NDArray[np.float32]
    reasons: dict[str, str]


class Study:
    """The images of one run.

    Attributes:
        samples: those with an image, in order.
        without_image: those that ended in another outcome.
        prompts: by id, those of the run's prompt sets and those that a manifest names.
        groups: which samples belong together in splits and in resampling.
    """

    def __init__(
        self,
        store: Store,
        *,
        seed: int,
        resamples: int,
        threads: int | None = None,
        device: str = "auto",
        progress: Progress | None = None,
        prompt_sets: Collection[str] | None = None,
        near_duplicates: duplicates.Policy = "stop",
        executor: Executor | None = None,
    ) -> None:
        """Reads the samples of a run.

        Args:
            store: the run.
            seed: of splits and resamples.
            resamples: behind every interval.
            threads: of the core; all cores unless given.
            device: where judges run.
            progress: called with (stage, done, total).
            prompt_sets: generated images of these sets only, beside all photographs; None for all.
            near_duplicates: what is done about one picture in two groups; see :data:`duplicates.Policy`.
            executor: where judges and detectors run; in this process, on `device`, unless given.
        """
        self.store = store
        self.seed = seed
        self.resamples = resamples
        self.device = device
        self.threads = threads or len(os.sched_getaffinity(0))
        self.here = executors.local(device, self.threads)
        self.executor: Executor = executor or self.here
        self.progress = progress or (lambda *_: None)
        everything = [
            s for s in store.samples() if prompt_sets is None or s.label != "fake" or s.prompt_set in prompt_sets
        ]
        self.prompts = store.prompts()
        self.samples = [sample for sample in everything if sample.outcome is Outcome.OK and sample.image]
        self.without_image = [sample for sample in everything if sample.outcome is not Outcome.OK]
        self._near_duplicates = near_duplicates
        self._paths = store.image_paths()
        self._tables: dict[tuple[str, str], Table] = {}

    # -- facts -------------------------------------------------------------------------------------------------

    def path(self, sample: Sample) -> Path:
        """Where a sample's bytes are."""
        assert sample.image is not None
        return self._paths[sample.image]

    @cached_property
    def concepts(self) -> dict[str, str]:
        """What a prompt asks for, by prompt id; a prompt without a concept, and not a twin, stands for itself."""
        return {p.id: told for p in self.prompts.values() if (told := p.concept or p.twin_of) is not None}

    @cached_property
    def groups(self) -> splits.Groups:
        """Groups of the samples, in their order."""
        joined = () if self._near_duplicates == "tell" else self.near_duplicates
        return splits.groups(self.samples, self.concepts, joined)

    @cached_property
    def near_duplicates(self) -> list[duplicates.Pair]:
        """Pairs of samples that show one picture and are in groups of their own; what cannot be read is in none."""

        def one(sample: Sample) -> NDArray[np.float32]:
            return duplicates.look(images.decode(self.path(sample)))

        table = self._table(f"look:{duplicates.VERSION}", "as stored", self._each(one), "near-duplicates")
        apart = splits.groups(self.samples, self.concepts)
        group = dict(zip((s.id for s in self.samples), apart.ids, strict=True))
        groups = np.array([group[s.id] for s in table.samples], dtype=np.int64)
        return duplicates.pairs([s.id for s in table.samples], table.values, groups) if table.samples else []

    def check_near_duplicates(self) -> None:
        """Stops a training for which near-duplicates would have stood on both sides of a split, if it is to be stopped.

        Raises:
            UsageError: the list of them.
        """
        if self._near_duplicates == "stop":
            duplicates.refuse(self.near_duplicates, {s.id: s.path or f"sample {s.id}" for s in self.samples})

    @property
    def notes(self) -> list[str]:
        """What was done about near-duplicates, for the report."""
        return duplicates.notes(self.near_duplicates, self._near_duplicates)

    def group_of(self, samples: Sequence[Sample]) -> NDArray[np.int64]:
        """(n,) group ids of some samples."""
        by_id = dict(zip((s.id for s in self.samples), self.groups.ids, strict=True))
        return np.array([by_id[s.id] for s in samples], dtype=np.int64)

    def folds(self, count: int, repeat: int) -> dict[str, int]:
        """The fold of each sample, by id, in one division of the groups."""
        chosen = splits.folds(self.groups.ids, self.samples, count, self.seed + 1000 * repeat)
        return dict(zip((s.id for s in self.samples), map(int, chosen), strict=True))

    @cached_property
    def containers(self) -> dict[str, Container]:
        """Container facts of the files as they are, by sample id; a file that is no image is absent."""
        found = {}
        for sample in self.samples:
            try:
                found[sample.id] = images.probe(self.path(sample))
            except ImageError:
                continue
        return found

    def arm(self, view: str) -> Arm:
        """The arm of a view (or a perturbation chain as an arm of its own name)."""
        return arm(view, self.samples, self.containers, self.seed)

    # -- vectors -----------------------------------------------------------------------------------------------

    def features(self, way: Arm, columns: Sequence[str]) -> Table:
        """Forensic features of every image under an arm."""
        return self.feature_tables([way], columns)[way.name]

    def feature_tables(self, ways: Sequence[Arm], columns: Sequence[str]) -> dict[str, Table]:
        """Forensic features of every image under several arms, by the arm's name: an image is decoded once for all."""
        kind = f"features:{_digest(features.names(columns))}"
        new = [way for way in ways if (kind, way.name) not in self._tables]
        known = {way.name: self.store.vectors(kind, way.name) for way in new}
        waiting: dict[tuple[str, ...], list[Sample]] = {}  # a killed run may have left arms at different images
        for sample in self.samples:
            lacking = tuple(way.name for way in new if sample.id not in known[way.name])
            if lacking:
                waiting.setdefault(lacking, []).append(sample)
        done, total = 0, sum(map(len, waiting.values()))
        for lacking, missing in waiting.items():
            asked = [way for way in new if way.name in lacking]
            stage = f"features ({', '.join(lacking)})" if len(lacking) < _NAMED else f"features ({len(lacking)} views)"
            for start in range(0, len(missing), _BATCH):
                batch = missing[start : start + _BATCH]
                found = features.extract_chains(
                    [self.path(s) for s in batch],
                    [[way.chain(s) for way in asked] for s in batch],
                    columns,
                    threads=self.threads,
                    seeds=[_seed(s) for s in batch],
                )
                for way, under in zip(asked, found, strict=True):
                    rows = {
                        s.id: Vector(None, under.errors[i].code) if i in under.errors else Vector(under.values[i], None)
                        for i, s in enumerate(batch)
                    }
                    self._keep(kind, way.name, batch, rows)
                    known[way.name].update(rows)
                done += len(batch)
                self.progress(stage, done, total)
        self._tables |= {(kind, name): _tabulate(self.samples, rows) for name, rows in known.items()}
        return {way.name: self._tables[kind, way.name] for way in ways}

    def embeddings(self, way: Arm, encoder: Encoder) -> Table:
        """Vectors of a frozen encoder of every image under an arm."""

        def make(batch: Sequence[Sample]) -> dict[str, Vector]:
            found = encoder.embed(
                [self.path(s) for s in batch], chains=[way.chain(s) for s in batch], threads=self.threads
            )
            return {
                s.id: Vector(None, found.errors[i]) if i in found.errors else Vector(found.values[i], None)
                for i, s in enumerate(batch)
            }

        kind = f"embedding:{encoder.name}@{encoder.version}"
        return self._table(kind, way.name, make, f"{encoder.name} ({way.name})")

    def container_facts(self, way: Arm) -> Table:
        """What a file's container alone says, under an arm."""

        def one(sample: Sample) -> NDArray[np.float32]:
            chain = way.chain(sample)
            source: Path | bytes = self.path(sample)
            if chain != "native":
                source = perturb.encode(source, chain)
            # Where one encoder wrote every file, its length is a fact about the pixels and no longer the container's.
            return probes.container_vector(images.probe(source), with_bytes=way.name != "recompressed")

        return self._table(f"container:{probes.VERSION}", way.name, self._each(one), f"containers ({way.name})")

    def thumbnails(self, way: Arm) -> Table:
        """What is left of each image at 16×16, as colour statistics, under an arm."""

        def one(sample: Sample) -> NDArray[np.float32]:
            pixels = images.decode(self.path(sample))
            return probes.content_vector(perturb.apply(pixels, way.chain(sample)))

        return self._table(f"content:{probes.VERSION}", way.name, self._each(one), f"thumbnails ({way.name})")

    def _each(self, one: Callable[[Sample], NDArray[np.float32]]) -> Callable[[Sequence[Sample]], dict[str, Vector]]:
        def guarded(sample: Sample) -> Vector:
            try:
                return Vector(one(sample), None)
            except ImageError as wrong:
                return Vector(None, wrong.code)

        def make(batch: Sequence[Sample]) -> dict[str, Vector]:
            with ThreadPoolExecutor(self.threads) as pool:
                return dict(zip((s.id for s in batch), pool.map(guarded, batch), strict=True))

        return make

    def _table(
        self, kind: str, name: str, make: Callable[[Sequence[Sample]], Mapping[str, Vector]], stage: str
    ) -> Table:
        if (kind, name) in self._tables:
            return self._tables[kind, name]
        known = self.store.vectors(kind, name)
        missing = [sample for sample in self.samples if sample.id not in known]
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            rows = make(batch)
            self._keep(kind, name, batch, rows)
            known.update(rows)
            self.progress(stage, min(start + _BATCH, len(missing)), len(missing))
        table = _tabulate(self.samples, known)
        self._tables[kind, name] = table
        return table

    def _keep(self, kind: str, name: str, batch: Sequence[Sample], rows: Mapping[str, Vector]) -> None:
        self.store.add_vectors(kind, name, rows)
        if name == "native":  # a file that cannot be read; what a perturbation leaves too small is no failure
            named = {s.id: s.path or f"sample {s.id}" for s in batch}
            self.store.add_failures({named[i]: row.reason for i, row in rows.items() if row.reason is not None})


def _tabulate(samples: Sequence[Sample], vectors: Mapping[str, Vector]) -> Table:
    good = [s for s in samples if vectors[s.id].values is not None]
    rows = [vectors[s.id].values for s in good]
    values = np.stack([row for row in rows if row is not None]) if rows else np.zeros((0, 0), np.float32)
    reasons = {s.id: vectors[s.id].reason or "failed" for s in samples if vectors[s.id].values is None}
    return Table(good, values, reasons)


def _seed(sample: Sample) -> int:
    """Of a perturbation's random steps: the image's own, whatever stands beside it in a batch."""
    return int((sample.image or "0")[:15], 16)


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]


def tally(reasons: Mapping[str, str], samples: Sequence[Sample]) -> dict[str, int]:
    """How many of some samples are unscored, by reason; one without an image gives its own."""
    own = {s.id: s.reason or s.outcome.value for s in samples if s.outcome is not Outcome.OK}
    return dict(Counter((own | dict(reasons))[s.id] for s in samples if s.id in own or s.id in reasons))


def by_generator(samples: Sequence[Sample], label: str = "fake") -> dict[str, list[Sample]]:
    """Samples of a label by generator, in order of first appearance."""
    chosen = [s for s in samples if s.label == label and s.generator is not None]
    chosen.sort(key=lambda s: str(s.generator))
    return {name: list(members) for name, members in itertools.groupby(chosen, key=lambda s: str(s.generator))}
