"""Features and scores of any number of images on a Ray cluster, as a folder of Parquet files.

The inputs become *parts* (some thousand files, a tar, some row groups of a Parquet file). Ray Data hands parts to
actors; an actor reads its part (the next batch while it works on this one), computes, writes the part's file and
returns one small row about it. Pixels and features never pass through Ray's object store, so that memory stays that of
one part per actor. A worker or a node that dies costs its parts again: Ray gives them to others, and a part that is
written again replaces its own file (`dataset_folders`).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import os
import pickle
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mllmrisk.errors import MllmriskError, UsageError
from mllmrisk.executors import cluster
from mllmrisk.executors import dataset_inputs as inputs
from mllmrisk.executors.dataset_folders import Done, Folder
from mllmrisk.executors.dataset_inputs import Part
from mllmrisk.executors.dataset_workers import FeatureWorker, ScoreWorker
from mllmrisk.inference import parse_device
from mllmrisk.tars import SUFFIXES

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""


_NOTHING = "no image among the paths; a folder gives its files with an image's suffix, and its tars"


class Written(NamedTuple):
    """A result.

    Attributes:
        folder: where it is.
        rows: images, of which
        errors: so many, by reason, have no values.
        files: how many Parquet files hold them.
        bytes: their size.
    """

    folder: str
    rows: int
    errors: dict[str, int]
    files: int
    bytes: int


def features(
    paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    features: str | Sequence[str] = "default",
    *,
    threads: int = 1,
    address: str = "auto",
    rows: int | None = None,
    force: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> Written:
    """Extracts features on a Ray cluster; the rows are those of `mllmrisk features`, bit for bit and in its order.

    Args:
        paths: files, folders, patterns, `shard-{000..099}.tar`, manifests, lists and Parquet files, here or behind
            URLs; every node must be able to read them.
        out: a folder (path or URL) that every node can write to.
        features: as for :func:`mllmrisk.extract`.
        threads: of each worker, and CPUs that Ray reserves for it.
        address: as for :func:`mllmrisk.executors.cluster.connect`.
        rows: images per part where they are files or rows; chosen by their number if None.
        force: replace results that are there.
        resume: go on with results that are there: the parts that are written are not computed again.
        progress: called as parts are done.

    Raises:
        UsageError: an input, `out` or the address is wrong.
        MissingExtraError: Ray, fsspec or pyarrow is not installed.
        MllmriskError: the work cannot be finished; what is written stays, and `resume` goes on.
    """
    from mllmrisk import features as core

    chosen = [features] if isinstance(features, str) else list(features)
    names = core.names(chosen)
    given = [os.fspath(path) for path in paths]
    target = _absolute(os.fspath(out))
    plan = {"stage": "features", "inputs": given, "columns": list(names)}
    with _joined(address) as ray:
        run = _Run(ray, Folder(target), plan, cpus=threads, gpus=0, force=force, resume=resume)
        worker = (FeatureWorker, (chosen, threads, target, str(Path.cwd())))
        total = None if progress is None else inputs.count(given)
        tell = None if progress is None or total is None else _told(progress, "features", total)
        return run.finish(lambda size: inputs.expand(given, size), worker, rows, tell)


def detect(
    detector: str,
    images: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    device: str = "auto",
    threads: int = 1,
    address: str = "auto",
    rows: int | None = None,
    force: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> Written:
    """Scores images with a detector on a Ray cluster: a worker per GPU, or per `threads` CPUs.

    Args:
        detector: a registered name or a file, readable on every node.
        images: a manifest or folder as `mllmrisk detect` takes it, or whatever :func:`features` takes.
        out: as for :func:`features`.
        device: `cpu`, `cuda` or `tensorrt`; `auto` takes CUDA where the cluster has GPUs. Each worker has one GPU.
        threads: of each worker, and CPUs that Ray reserves for it.
        address: as for :func:`features`.
        rows: as for :func:`features`.
        force: as for :func:`features`.
        resume: as for :func:`features`.
        progress: as for :func:`features`; of a manifest, whose images are counted when it is read.

    Raises:
        UsageError: the detector, the images, `out` or the address is wrong.
        MissingExtraError: Ray, or what the detector needs, is not installed.
        MllmriskError: the work cannot be finished.
    """
    given = os.fspath(images)
    target = _absolute(os.fspath(out))
    named = str(Path(detector).resolve()) if Path(detector).is_file() else detector
    plan = {"stage": "detect", "inputs": [given], "detector": named}
    kind, index = parse_device(device)
    if index:
        raise UsageError(f"--device {device}: with ray each worker has one GPU of its own; give --device {kind}")
    with _joined(address) as ray:
        if device == "auto":
            device = "cuda" if ray.cluster_resources().get("GPU", 0) >= 1 else "cpu"
        gpus = 0 if device == "cpu" else 1
        run = _Run(ray, Folder(target), plan, cpus=threads, gpus=gpus, force=force, resume=resume)
        worker = (ScoreWorker, (named, device, threads, target, str(Path.cwd())))
        return run.finish(lambda size: pictures(given, size), worker, rows, _told_once(progress, given))


def pictures(images: str, rows: int = 2048) -> Iterator[inputs.File | inputs.Tar | inputs.Table]:
    """The images that `mllmrisk detect` is given: a manifest, checked as a whole, or inputs as for features.

    Raises:
        UsageError: it names no image, or the manifest is wrong.
    """
    if not is_manifest(images):
        yield from inputs.expand([images], rows)
        return
    from mllmrisk import manifest

    for entry in manifest.read(Path(images), labelled=False).entries:
        sample = entry.sample
        facts: dict[str, str] = {"label": sample.label, "paradigm": sample.paradigm}
        if sample.generator is not None:
            facts["generator"] = sample.generator
        yield inputs.File(sample.path or "", str(entry.file), entry.span, facts)


def is_manifest(images: str) -> bool:
    """Whether `manifest.read` takes it; an image, a list and a Parquet file with the bytes of images are none."""
    path = Path(images)
    if inputs.is_url(images) or not path.exists():
        return False
    if path.suffix.lower() in {*SUFFIXES, ".txt"} and path.is_file():
        return False
    if path.suffix.lower() != ".parquet":
        return True
    first = next(inputs.expand([images]), None)
    return not (isinstance(first, inputs.Table) and first.stored)


@contextlib.contextmanager
def _joined(address: str) -> Iterator[Any]:
    """The cluster; what Ray tells of workers that died goes to stderr, since stdout is for results."""
    with contextlib.redirect_stdout(sys.stderr), cluster.connect(address) as ray:
        yield ray


def _absolute(out: str) -> str:
    return out if inputs.is_url(out) else str(Path(inputs.local(out)).absolute())


def _told(progress: Progress, stage: str, total: int) -> Callable[[int], None]:
    return lambda done: progress(stage, done, max(done, total))


def _told_once(progress: Progress | None, images: str) -> Callable[[int], None] | None:
    if progress is None or is_manifest(images):
        return None
    total = inputs.count([images])
    return None if total is None else _told(progress, "detect", total)


class _Run:
    """One result in the making."""

    def __init__(
        self, ray: Any, folder: Folder, plan: dict[str, Any], *, cpus: int, gpus: int, force: bool, resume: bool
    ) -> None:
        self._ray, self._folder, self._plan = ray, folder, plan
        self._cpus, self._gpus = cpus, gpus
        self._force, self._resume = force, resume
        self._workers = _room(ray, cpus, gpus)

    def finish(
        self,
        expanded: Callable[[int], Iterator[inputs.File | inputs.Tar | inputs.Table]],
        worker: tuple[type, tuple[Any, ...]],
        rows: int | None,
        tell: Callable[[int], None] | None,
    ) -> Written:
        """Does all parts, those of earlier calls excepted, and closes the folder."""
        found = expanded(rows or 2048)
        if rows is None:
            rows, found = inputs.first_parts(found, self._workers)
        first = next(found, None)
        if first is None:
            raise UsageError(_NOTHING)
        plan = self._folder.begin({**self._plan, "_rows": rows}, force=self._force, resume=self._resume)
        numbered = enumerate(inputs.parts(itertools.chain([first], found), plan["_rows"]))
        before = self._folder.done() if self._resume else {}
        finished: list[Done] = []
        images = 0
        wave = max(64, 8 * self._workers)  # so many parts are described at once; the list of all may be long
        while some := list(itertools.islice(numbered, wave)):
            waiting = []
            for number, part in some:
                done = before.get(f"part-{number:06d}.parquet")
                if done is not None and done.digest == inputs.digest(part):
                    finished.append(done)
                    images += done.rows
                else:
                    waiting.append((number, part))
            for done in self._spread(waiting, worker):
                finished.append(done)
                images += done.rows
                if tell is not None:
                    tell(images)
        finished.sort()
        self._folder.finish(finished, plan)
        errors: Counter[str] = Counter()
        for done in finished:
            errors.update(done.errors)
        return Written(self._folder.place, images, dict(errors), len(finished), sum(done.bytes for done in finished))

    def _spread(self, waiting: list[tuple[int, Part]], worker: tuple[type, tuple[Any, ...]]) -> Iterator[Done]:
        if not waiting:
            return
        pool = _Pool(*worker, min(self._workers, len(waiting)), self._cpus, self._gpus)
        try:
            if self._ray.util.client.ray.is_connected():
                # Ray Data does not work through a Ray Client: it runs in a task on the cluster
                yield from self._ray.get(self._ray.remote(num_cpus=0)(_spread_there).remote(waiting, pool))
            else:
                yield from _spread(waiting, pool)
        except self._ray.exceptions.RayError as wrong:
            lines = [line.strip() for line in str(wrong).splitlines() if line.strip()]
            why = (lines or [type(wrong).__name__])[-1][:300]
            raise MllmriskError(f"the work on the cluster failed: {why}") from wrong


def _room(ray: Any, cpus: int, gpus: int) -> int:
    """How many workers the cluster has room for.

    Raises:
        UsageError: no node has room for one: it would be waited for without end.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    each = [min(node.get("CPU", 0) // cpus, node.get("GPU", 0) // gpus if gpus else math.inf) for node in nodes]
    if sum(each) < 1:
        needed = f"{cpus} CPU(s)" + (" and a GPU" if gpus else "")
        raise UsageError(f"no node of the cluster has {needed}; a worker has as many CPUs as --threads says")
    return int(sum(each))


class _Pool(NamedTuple):
    """So many actors of a worker's class, each with its CPUs and GPUs."""

    kind: type
    arguments: tuple[Any, ...]
    actors: int
    cpus: int
    gpus: int


def _spread(waiting: list[tuple[int, Part]], pool: _Pool) -> Iterator[Done]:
    """Parts through a pool of actors, as they are done."""
    import ray.data

    _quieten(ray)
    rows = [{"number": number, "part": pickle.dumps(part)} for number, part in waiting]
    results = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        pool.kind,
        fn_constructor_args=pool.arguments,
        batch_size=1,
        batch_format="numpy",
        num_cpus=pool.cpus,
        num_gpus=pool.gpus or None,
        # From one actor up, so that an idle one makes room for another whose node is gone.
        compute=ray.data.ActorPoolStrategy(
            min_size=1, max_size=pool.actors, initial_size=pool.actors, max_tasks_in_flight_per_actor=1
        ),
    )
    for row in results.iter_rows():
        if row["wrong"]:
            raise MllmriskError(row["wrong"])
        yield Done(**json.loads(row["done"]))


def _spread_there(waiting: list[tuple[int, Part]], pool: _Pool) -> list[Done]:
    return list(_spread(waiting, pool))


def _quieten(ray: Any) -> None:
    """No progress bars (ours is told), no advice on stderr, and no log of what each operator did."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.data._internal"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


__all__ = ["Written", "detect", "features", "is_manifest", "pictures"]
