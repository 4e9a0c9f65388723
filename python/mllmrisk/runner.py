"""Composes the stages of a run. It knows kinds, never names.

suite + profile → plan → prompts → images → scores → estimates → report: each stage reads what the one before it stored
and writes its own, so that the same call on the same folder goes on where a killed run stood.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec

from mllmrisk import (
    batch_search,
    executors,
    generation,
    generators,
    images,
    manifest,
    photographs,
    plan,
    report,
    trace,
)
from mllmrisk.errors import ImageError, UsageError
from mllmrisk.executors.base import Executor
from mllmrisk.experiments import confounds, summaries, views
from mllmrisk.experiments.study import Progress, Study
from mllmrisk.generation import EXTENSIONS
from mllmrisk.manifest import Entry, Manifest
from mllmrisk.plan import Plan, Request
from mllmrisk.records import Estimate, Outcome, Prompt, Sample
from mllmrisk.run import Run
from mllmrisk.store import Store, write_atomically

_VERSIONS = (
    "mllmrisk", "numpy", "scikit-learn", "onnx", "onnxruntime", "torch", "diffusers", "transformers",
)  # fmt: skip
#: Images stored per transaction.
_BATCH = 32


def evaluate(request: Request, progress: Progress | None = None) -> Run:
    """Runs a suite to its report, or goes on with the run in `request.out`."""
    asked = plan.plan(request)
    plan.require(asked)
    tell = progress or (lambda *_: None)
    seconds: dict[str, float] = {}
    began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with (
        Store.open(asked.out, asked.spec) as store,
        trace.recording(_trace(asked, request)),
        _executor(request) as executor,
    ):
        _images(store, asked, request, seconds, tell, executor)
        study = _study(store, asked, request, tell, executor)
        captions = study if asked.captions is None else _study(store, asked, request, tell, executor, asked.captions)
        for experiment in asked.experiments:
            experiment.check(captions if experiment.photographs else study)
        rows: list[Estimate] = []
        for experiment in asked.experiments:
            with _timed(seconds, experiment.kind):
                rows += experiment.estimates(captions if experiment.photographs else study)
        rows = confounds.marked(rows, asked.explained)
        with _timed(seconds, "summaries"):
            left = {"notes": _notes(asked, captions, rows), "failures": store.failures()}
            told = {**summaries.of(study, captions, rows), **left}
        write_atomically(store.root / "summaries.json", json.dumps(told, ensure_ascii=False, allow_nan=False).encode())
        store.write_estimates(_facts(asked, (study, captions), store, began, seconds), rows)
    report.render(asked.out)
    return Run(asked.out)


def generate(request: Request, progress: Progress | None = None) -> Path:
    """Makes the images of a run and nothing else; `evaluate` with the same call goes on from there."""
    asked = plan.plan(request)
    plan.require(asked)
    with (
        Store.open(asked.out, asked.spec) as store,
        trace.recording(_trace(asked, request)),
        _executor(request) as executor,
    ):
        _images(store, asked, request, {}, progress or (lambda *_: None), executor)
    return asked.out


def find_batches(request: Request) -> Iterator[tuple[str, batch_search.Found]]:
    """The best batch of each generator of a run, whatever its TOML says; nothing is written.

    Raises:
        UsageError: the run has no prompts for its generators.
        GeneratorError: a generator cannot go on.
    """
    asked = plan.plan(request)
    plan.require(asked)
    orders = [(prompt, order.samples) for order in asked.orders for prompt in order.texts]
    for described in asked.generators:
        wanted = generation.wanted(described, orders, asked.spec.seed, 0)[: batch_search.MOST]
        if not wanted:
            raise UsageError(f"there are no prompts to try generator {described.common.name} with")
        with contextlib.closing(generators.load(described, device=request.device)) as generator:
            yield described.common.name, batch_search.search(generator, [generation.request(w) for w in wanted])


def _trace(asked: Plan, request: Request) -> Path | None:
    return asked.out / "trace.json" if request.trace else None


def _executor(request: Request) -> AbstractContextManager[Executor]:
    return executors.opened(request.where, device=request.device, threads=request.threads)


def _images(
    store: Store, asked: Plan, request: Request, seconds: dict[str, float], tell: Progress, executor: Executor
) -> None:
    """Given images, photographs, generated images, in this order of positions."""
    first = 0
    with _timed(seconds, "import"):
        if asked.given is not None:
            ingest(store, asked.given, tell)
            first = len(asked.given.entries)
        elif asked.profile.photographs and asked.captions is not None:
            first = _photographs(store, asked, request, tell)
    if asked.generators:
        with _timed(seconds, "generate"):
            orders = [(prompt, order.samples) for order in asked.orders for prompt in order.texts]
            generation.generate(
                store,
                asked.generators,
                orders,
                first=first,
                seed=asked.spec.seed,
                device=request.device,
                progress=tell,
                executor=executor,
            )


def _study(
    store: Store,
    asked: Plan,
    request: Request,
    tell: Progress,
    executor: Executor,
    prompt_sets: tuple[str, ...] | None = None,
) -> Study:
    return Study(
        store,
        seed=asked.spec.seed,
        resamples=asked.suite.resamples,
        threads=request.threads,
        device=request.device,
        progress=tell,
        prompt_sets=prompt_sets,
        near_duplicates=asked.profile.looking(generated=bool(asked.generators)).near_duplicates,
        executor=executor,
    )


def _photographs(store: Store, asked: Plan, request: Request, tell: Progress) -> int:
    """Takes the profile's photographs that are not there yet, and returns how many there are."""
    given = photographs.given(asked.profile.photographs, request.limit)
    if given is not None:
        ingest(store, given, tell)
        return len(given.entries)
    captions = [
        prompt
        for order in asked.orders
        if order.described.common.name in (asked.captions or ())
        for prompt in order.texts
    ]
    planned = photographs.planned(asked.profile.photographs, captions, asked.spec.seed)
    known = {sample.id for sample in store.samples()}
    waiting = [(i, photograph) for i, photograph in enumerate(planned) if photograph.sample.id not in known]
    for start in range(0, len(waiting), _BATCH):
        batch = waiting[start : start + _BATCH]
        store.add_samples(
            (position, manifest.with_image(photograph.sample, store.add_image(photograph.take(), "jpg")))
            for position, photograph in batch
        )
        tell("photographs", start + len(batch), len(waiting))
    return len(planned)


def ingest(store: Store, given: Manifest, progress: Progress) -> None:
    """Stores the images of a manifest; one that cannot be read ends as a failed sample with its reason."""
    store.add_prompts({p.id: p for entry in given.entries if (p := _prompt(entry.sample)) is not None}.values())
    known = {sample.id for sample in store.samples()}
    waiting = [(i, entry) for i, entry in enumerate(given.entries) if entry.sample.id not in known]
    for start in range(0, len(waiting), _BATCH):
        batch = waiting[start : start + _BATCH]
        rows = [(position, _stored(store, entry)) for position, entry in batch]
        store.add_samples(rows)
        store.add_failures({str(s.path): str(s.reason) for _, s in rows if s.outcome is Outcome.FAILED})
        progress("images", start + len(batch), len(waiting))


def _prompt(sample: Sample) -> Prompt | None:
    """The prompt that a manifest's row names; `category`, `twin_of` and `concept` are columns of it."""
    if sample.prompt_id is None:
        return None
    return Prompt(
        id=sample.prompt_id,
        text=sample.prompt or "",
        prompt_set=sample.prompt_set or "",
        language=sample.language or "",
        level=sample.level,
        category=sample.extra.get("category"),
        twin_of=sample.extra.get("twin_of"),
        concept=sample.extra.get("concept"),
    )


def _stored(store: Store, entry: Entry) -> Sample:
    failed = {"outcome": Outcome.FAILED}
    try:
        data = entry.read()
    except OSError as wrong:
        reason = "missing" if isinstance(wrong, FileNotFoundError) else "unreadable"
        return msgspec.structs.replace(entry.sample, **failed, reason=reason)
    if entry.sha256 is not None and hashlib.sha256(data).hexdigest() != entry.sha256:
        return msgspec.structs.replace(entry.sample, **failed, reason="sha256_mismatch")
    try:
        extension = EXTENSIONS[images.probe(data).format]
    except ImageError as wrong:
        store.add_failures({str(entry.sample.path): wrong.code})
        extension = "bin"  # kept: what a file is that cannot be read is evidence too
    return manifest.with_image(entry.sample, store.add_image(data, extension))


class _timed:  # noqa: N801 (a context manager that reads like a keyword)
    def __init__(self, seconds: dict[str, float], stage: str) -> None:
        self._seconds, self._stage = seconds, stage

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._stage] = round(self._seconds.get(self._stage, 0.0) + time.monotonic() - self._began, 2)


def _facts(
    asked: Plan, studies: tuple[Study, Study], store: Store, began: str, seconds: Mapping[str, float]
) -> dict[str, Any]:
    study, captions = studies
    return {
        "spec": msgspec.to_builtins(asked.spec),
        "suite_about": asked.suite.about,
        "profile_about": asked.profile.about,
        "resamples": asked.suite.resamples,
        "profile_note": asked.profile.note if asked.generators else "",
        "generators": {
            maker.common.name: json.loads(store.meta(f"generator {maker.common.name}") or "{}")
            for maker in asked.generators
        },
        "costs": store.costs(),
        "speeds": store.speeds(),
        "versions": {name: plan.version_of(name) for name in _VERSIONS},
        "build": images.build_info(),
        "hardware": {
            "machine": platform.machine(),
            "system": platform.system(),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "threads": study.threads,
            **({"executor": study.executor.about} if study.executor.remote else {}),
        },
        "began": began,
        "seconds": dict(seconds),
        "groups": {"by": captions.groups.by, "weak": captions.groups.weak} if _splits(asked) else {},
        "counts": _counts(study),
    }


def _notes(asked: Plan, study: Study, rows: Sequence[Estimate]) -> list[str]:
    """The plan's; and what was done about sizes and near-duplicates, where figures depend on it."""
    matched = any(row.perturbation == "matched" for row in rows)
    sizes = views.notes(study.samples, study.containers) if matched else []
    return [*asked.notes, *sizes, *(study.notes if _splits(asked) else [])]


def _splits(asked: Plan) -> bool:
    """Whether anything is split into groups: detectors that look at photographs are."""
    return any(experiment.photographs for experiment in asked.experiments)


def _counts(study: Study) -> dict[str, int]:
    counted = Counter(key for sample in study.samples for key in {sample.label, sample.paradigm})
    return dict(sorted(counted.items()))
