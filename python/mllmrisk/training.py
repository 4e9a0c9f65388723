"""`train` and `detect`: a detector as a file, made from a manifest and used on another."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mllmrisk import detectors, manifest
from mllmrisk.detectors.base import Captioning, Detector
from mllmrisk.errors import UsageError
from mllmrisk.experiments import crossfit, recipes
from mllmrisk.experiments.study import Progress, Study
from mllmrisk.experiments.views import VIEWS
from mllmrisk.records import RunSpec, Sample, Score
from mllmrisk.registry import did_you_mean
from mllmrisk.runner import ingest
from mllmrisk.store import Store, write_atomically


class Trained(NamedTuple):
    """A detector file and what is known of it.

    Attributes:
        inner_auc: AUC of cross-fitted scores inside the training images, group-wise.
        unreadable: images left out, by reason.
    """

    path: Path
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
    threads: int | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Trains a detector on a manifest and writes it as an ONNX file.

    Raises:
        UsageError: a family or view that is not there, or a manifest that cannot be used.
    """
    if family not in recipes.TRAINED:
        raise UsageError(
            f"no family {family!r}.{did_you_mean(family, recipes.TRAINED)} Known: {', '.join(recipes.TRAINED)}"
        )
    if view not in VIEWS:
        raise UsageError(f"no view {view!r}.{did_you_mean(view, VIEWS)} Known: {', '.join(VIEWS)}")
    given = manifest.read(images)
    tell = progress or (lambda *_: None)
    with tempfile.TemporaryDirectory(prefix="mllmrisk-train-") as folder:
        spec = RunSpec(suite="train", suite_digest="", profile="", profile_digest="", images_digest=given.digest)
        with Store.open(Path(folder) / "run", spec) as store:
            ingest(store, given, tell)
            study = Study(store, seed=seed, resamples=0, threads=threads, progress=tell)
            recipe = recipes.TRAINED[family]
            trained = crossfit.train(study, recipe, view, study.samples, seed=seed)
            assert recipe.columns is not None
            card = crossfit.card(recipe.columns, view, "all", trained, study.samples)
            photographs = crossfit.calibration(trained.inner, study.samples)
            from mllmrisk.detectors.forensic import to_onnx

            write_atomically(out, to_onnx(trained.fitted, card))
            return Trained(
                path=out,
                inner_auc=trained.fitted.inner_auc,
                real=sum(s.label == "real" for s in study.samples),
                fake=sum(s.label == "fake" for s in study.samples),
                thresholds={str(rate): crossfit.threshold(photographs, rate) for rate in crossfit.CARD_RATES},
                unreadable=dict(Counter(store.failures().values())),
                groups=study.groups.by,
            )


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
