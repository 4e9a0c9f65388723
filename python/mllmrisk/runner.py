"""Composes the stages of a run. It knows kinds, never names.

suite + profile → RunSpec → samples → scores → estimates → report: each stage reads what the one before it stored and
writes its own, so that the same call on the same folder goes on where a killed run stood.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mllmrisk import config, images, inference, manifest, report
from mllmrisk.errors import ImageError, MissingExtraError, UsageError
from mllmrisk.experiments import EXPERIMENTS, confounds, summaries
from mllmrisk.experiments.base import Experiment
from mllmrisk.experiments.study import Progress, Study
from mllmrisk.manifest import Entry, Manifest
from mllmrisk.records import Estimate, Outcome, RunSpec, Sample
from mllmrisk.run import Run
from mllmrisk.store import Store, write_atomically

_EXTRA_MODULES = {"train": ("sklearn", "onnx"), "cpu": ("onnxruntime",)}
#: File name extension by what the bytes are.
_EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WebP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif"}
#: Images stored per transaction.
_BATCH = 32


class Request(NamedTuple):
    """One call of `evaluate`, as the user made it."""

    suite: str = "full"
    profile: str = "embedded"
    images: Path | None = None
    out: Path | None = None
    limit: int | None = None
    samples: int | None = None
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    detectors: tuple[str, ...] = ()


class Plan(NamedTuple):
    """What a request comes to, before any work."""

    spec: RunSpec
    suite: config.Suite
    profile: config.Profile
    manifest: Manifest
    experiments: list[Experiment]
    out: Path


def plan(request: Request) -> Plan:
    """Reads configs and manifest and checks that everything needed is there.

    Raises:
        UsageError: a config, the manifest or the call is wrong.
        MissingExtraError: an experiment needs packages that are not installed.
    """
    inference.parse_device(request.device)
    suite = config.suite(request.suite)
    profile = config.profile(request.profile)
    if request.images is None:
        raise UsageError(
            "no images: give --images MANIFEST (generators that make their own images are not part of this version)"
        )
    given = manifest.read(request.images, request.limit)
    experiments = _experiments(suite.value, profile.value, request)
    spec = RunSpec(
        suite=suite.value.name,
        suite_digest=suite.digest,
        profile=profile.value.name,
        profile_digest=profile.digest,
        images=str(request.images),
        images_digest=given.digest,
        seed=request.seed,
        limit=request.limit,
        samples=request.samples,
        detectors={name: _file_digest(name) for name in request.detectors},
        version=_version("mllmrisk"),
    )
    out = request.out or Path("runs") / f"{suite.value.name}-{given.digest[:8]}"
    return Plan(spec, suite.value, profile.value, given, experiments, out)


def _experiments(suite: config.Suite, profile: config.Profile, request: Request) -> list[Experiment]:
    made = []
    for table in suite.experiments:
        kind = str(table.get("kind", ""))
        factory = EXPERIMENTS.get(kind)
        where = f"suite {suite.name}, experiment {kind}"
        filled = dict(table)
        fields = factory.accepts.__struct_fields__
        for name, ours, asked in (("judges", profile.judges, ()), ("detectors", profile.detectors, request.detectors)):
            if name in fields:
                filled[name] = [*(filled.get(name) or ours), *asked]
        experiment = factory(config.parameters(filled, factory.accepts, where))
        for extra in experiment.needs():
            _check_extra(kind, extra)
        made.append(experiment)
    return made


def _check_extra(kind: str, extra: str) -> None:
    if any(find_spec(module) is None for module in _EXTRA_MODULES[extra]):
        raise MissingExtraError(f"the experiment {kind!r}", extra)


def _file_digest(name: str) -> str:
    path = Path(name)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""


def evaluate(request: Request, progress: Progress | None = None) -> Run:
    """Runs a suite to its report, or goes on with the run in `request.out`."""
    asked = plan(request)
    tell = progress or (lambda *_: None)
    seconds: dict[str, float] = {}
    began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with Store.open(asked.out, asked.spec) as store:
        with _timed(seconds, "import"):
            ingest(store, asked.manifest, tell)
        study = Study(
            store,
            seed=asked.spec.seed,
            resamples=asked.suite.resamples,
            threads=request.threads,
            device=request.device,
            progress=tell,
        )
        rows: list[Estimate] = []
        for experiment in asked.experiments:
            with _timed(seconds, experiment.kind):
                rows += experiment.estimates(study)
        rows = confounds.marked(rows)
        with _timed(seconds, "summaries"):
            told = {**summaries.of(study, rows), "notes": asked.manifest.notes, "failures": store.failures()}
        write_atomically(store.root / "summaries.json", json.dumps(told, ensure_ascii=False, allow_nan=False).encode())
        store.write_estimates(_facts(asked, study, began, seconds), rows)
    report.render(asked.out)
    return Run(asked.out)


def ingest(store: Store, given: Manifest, progress: Progress) -> None:
    """Stores the images of a manifest; one that cannot be read ends as a failed sample with its reason."""
    known = {sample.id for sample in store.samples()}
    waiting = [(i, entry) for i, entry in enumerate(given.entries) if entry.sample.id not in known]
    for start in range(0, len(waiting), _BATCH):
        batch = waiting[start : start + _BATCH]
        rows = [(position, _stored(store, entry)) for position, entry in batch]
        store.add_samples(rows)
        store.add_failures({str(s.path): str(s.reason) for _, s in rows if s.outcome is Outcome.FAILED})
        progress("images", start + len(batch), len(waiting))


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
        extension = _EXTENSIONS[images.probe(data).format]
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


def _facts(asked: Plan, study: Study, began: str, seconds: Mapping[str, float]) -> dict[str, Any]:
    return {
        "spec": msgspec.to_builtins(asked.spec),
        "suite_about": asked.suite.about,
        "profile_about": asked.profile.about,
        "resamples": asked.suite.resamples,
        "versions": {name: _version(name) for name in ("mllmrisk", "numpy", "scikit-learn", "onnx", "onnxruntime")},
        "build": images.build_info(),
        "hardware": {
            "machine": platform.machine(),
            "system": platform.system(),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "threads": study.threads,
        },
        "began": began,
        "seconds": dict(seconds),
        "groups": {"by": study.groups.by, "weak": study.groups.weak},
        "counts": _counts(study),
    }


def _counts(study: Study) -> dict[str, int]:
    counted = Counter(key for sample in study.samples for key in {sample.label, sample.paradigm})
    return dict(sorted(counted.items()))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def outline(asked: Plan) -> dict[str, Any]:
    """The plan of a run for programs, for `--dry-run --json`."""
    return {
        "spec": msgspec.to_builtins(asked.spec),
        "images": dict(Counter(entry.sample.paradigm for entry in asked.manifest.entries)),
        "experiments": [experiment.kind for experiment in asked.experiments],
        "out": str(asked.out),
    }


def describe(asked: Plan) -> Iterable[str]:
    """The plan of a run in lines, for `--dry-run`."""
    counts = outline(asked)["images"]
    yield f"suite {asked.suite.name} (version {asked.suite.version}): {asked.suite.about}"
    yield f"profile {asked.profile.name}: {asked.profile.about}"
    yield f"images: {len(asked.manifest.entries)} ({', '.join(f'{n} {p}' for p, n in sorted(counts.items()))})"
    for experiment in asked.experiments:
        yield f"experiment {experiment.kind}"
    yield f"run folder: {asked.out}"
