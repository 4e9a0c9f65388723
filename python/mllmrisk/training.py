"""`train` and `detect`: a detector as a file, made from a manifest and used on another."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mllmrisk import detectors, manifest
from mllmrisk.detectors.base import Captioning, Detector
from mllmrisk.errors import UsageError
from mllmrisk.experiments import crossfit, duplicates, families
from mllmrisk.experiments.families import Training
from mllmrisk.experiments.study import Progress, Study
from mllmrisk.experiments.views import VIEWS
from mllmrisk.records import RunSpec, Sample, Score
from mllmrisk.registry import did_you_mean
from mllmrisk.runner import ingest
from mllmrisk.store import Store


class Trained(NamedTuple):
    """A detector file and what is known of it.

    Attributes:
        path, toml: the ONNX file and its TOML.
        inner_auc: AUC inside the training images, each scored by a model that had not seen its group.
        thresholds: logit by false-alarm rate, or why there is none.
        unreadable: images left out, by reason.
        groups: what was kept on one side of inner splits.
    """

    path: Path
    toml: Path
    inner_auc: float
    real: int
    fake: int
    thresholds: dict[str, float | str]
    unreadable: dict[str, int]
    groups: str


def train(
    images: Path,
    out: Path,
    *,
    family: str = "forensic",
    view: str = "recompressed",
    seed: int = 0,
    near_duplicates: duplicates.Policy = "stop",
    device: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Trains a detector on a manifest and writes it as an ONNX file with its TOML.

    What a killed call has done is kept in a folder beside `out`, and the same call goes on from there.

    Args:
        images: the manifest, or a folder.
        out: the ONNX file.
        family: `forensic`, `probe:ENCODER` or `finetune:BACKBONE`.
        view: how images are looked at.
        seed: of inner splits, weights and augmentation.
        near_duplicates: what is done about one picture in two groups.
        device: where networks run.
        threads: of the core; all cores unless given.
        progress: called with (stage, done, total).

    Raises:
        UsageError: a family or view that is not there, a manifest that cannot be used, or near-duplicates.
        MissingExtraError: the family needs a package that is not installed.
    """
    if view not in VIEWS:
        raise UsageError(f"no view {view!r}.{did_you_mean(view, VIEWS)} Known: {', '.join(VIEWS)}")
    chosen = families.load(family)
    given = manifest.read(images)
    tell = progress or (lambda *_: None)
    working = out.with_name(f"{out.name}.training")
    spec = RunSpec(
        suite=f"train {family} {view} {near_duplicates}",
        suite_digest="",
        profile="",
        profile_digest="",
        images_digest=given.digest,
        seed=seed,
    )
    with Store.open(working, spec) as store:
        ingest(store, given, tell)
        study = Study(
            store,
            seed=seed,
            resamples=0,
            threads=threads,
            device=device,
            progress=tell,
            near_duplicates=near_duplicates,
        )
        study.check_near_duplicates()
        asked = Training(view, "all", study.samples, seed, working / "checkpoints")
        try:
            trained = chosen.train(study, asked)
        except ValueError as wrong:
            raise UsageError(f"{images}: {wrong}") from wrong
        toml = chosen.ship(study, asked, trained, out)
        photographs = crossfit.calibration(trained.inner, study.samples)
        made = Trained(
            path=out,
            toml=toml,
            inner_auc=trained.inner_auc,
            real=sum(s.label == "real" for s in study.samples),
            fake=sum(s.label == "fake" for s in study.samples),
            thresholds={str(rate): crossfit.threshold(photographs, rate) for rate in crossfit.CARD_RATES},
            unreadable=dict(Counter(store.failures().values())),
            groups=study.groups.by,
        )
    shutil.rmtree(working)
    return made


class Detected(NamedTuple):
    """One image with a detector's score, and the caption behind it where the detector reads one."""

    sample: Sample
    score: Score
    caption: str | None = None


#: Images per call of a detector: between two calls its model waits for the first batch of the next.
_BATCH = 256


def detect(
    detector_name: str,
    images: Path,
    *,
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[Detector, list[Detected]]:
    """Scores every image of a manifest (labels are not needed); one that cannot be read is unscored with a reason."""
    detector = detectors.load(detector_name, device=device)
    given = manifest.read(images, labelled=False)
    found: list[Detected] = []
    for start in range(0, len(given.entries), _BATCH):
        batch = given.entries[start : start + _BATCH]
        data: list[Path | bytes] = []
        reasons: dict[int, str] = {}
        for i, entry in enumerate(batch):
            try:
                data.append(entry.file if entry.span is None else entry.read())
            except OSError:
                data.append(b"")
                reasons[i] = "unreadable"
        for i, (entry, (score, caption)) in enumerate(zip(batch, _scored(detector, data, threads), strict=True)):
            found.append(Detected(entry.sample, Score(None, reasons[i]) if i in reasons else score, caption))
        if progress is not None:
            progress("detect", start + len(batch), len(given.entries))
    return detector, found


def _scored(
    detector: Detector, images: Sequence[Path | bytes], threads: int | None
) -> Sequence[tuple[Score, str | None]]:
    if isinstance(detector, Captioning):
        return detector.captioned(images, threads=threads)
    return [(score, None) for score in detector.score(images, threads=threads)]
