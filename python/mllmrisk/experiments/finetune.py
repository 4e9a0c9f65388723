"""The family `finetune:BACKBONE`: a torch network trained on the images of a run (docs/finetune.md)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mllmrisk.detectors import card
from mllmrisk.detectors.base import Detector
from mllmrisk.detectors.finetuning import recipe
from mllmrisk.detectors.finetuning.data import Examples, Look, Reader
from mllmrisk.errors import UsageError
from mllmrisk.experiments.crossfit import CARD_RATES, calibration, threshold
from mllmrisk.experiments.families import Scorer, Trained, Training
from mllmrisk.experiments.forensic import chain, digests
from mllmrisk.experiments.study import Study
from mllmrisk.experiments.tabular import described, told, weights
from mllmrisk.experiments.views import Arm, augmented
from mllmrisk.records import Sample, Score
from mllmrisk.store import write_atomically

#: Images that are scored per call.
_BATCH = 32


class Finetune:
    """One backbone, trained anew on each set of images.

    Attributes:
        name: see :class:`~mllmrisk.experiments.families.Family`.
        backbone: with the folder and the digest of its TOML.
    """

    def __init__(self, backbone: str) -> None:
        """Takes the name of a packaged backbone, or the path of a TOML."""
        self.backbone = recipe.read(backbone)
        self.name = f"finetune:{self.backbone.backbone.name}"
        self._reader: Reader | None = None

    def needs(self) -> Iterable[str]:
        """The optional dependency sets."""
        return ("gen", "train", "finetune", "cpu")

    def train(self, study: Study, asked: Training) -> Trained:
        """Trains the network; its ONNX file with its card is what a run keeps, scores with and carries away."""
        from mllmrisk.detectors.finetuning import training

        samples = list(asked.seen)
        if len({s.label for s in samples}) < 2:
            raise ValueError("training needs both photographs and generated images")
        asked.checkpoints.mkdir(parents=True, exist_ok=True)
        tuned = training.train(
            self.backbone,
            _examples(study, samples),
            self._look(study, samples, asked.view),
            seed=asked.seed,
            device=study.device,
            threads=study.threads,
            reader=self._shared(study),
            checkpoint=asked.checkpoints / "state.pt",
            tell=lambda done, most: study.progress(f"{self.name}: epochs", done, most),
        )
        inner = {samples[i].id: logit for i, logit in tuned.inner.items()}
        record: dict[str, Any] = {**told(asked), **tuned.record}
        data = card.write(tuned.model, self._recipe(asked, tuned.model, inner), seen=digests(samples), training=record)
        kept = asked.checkpoints / "detector.onnx"
        write_atomically(kept, data)
        return Trained(self.restore(study, kept), inner, tuned.inner_auc, data, record)

    def restore(self, study: Study, kept: Path) -> Scorer:
        """The stored file, run by onnxruntime; without the chain of its view, since an arm says how images look."""
        from mllmrisk.detectors.onnx import made

        return _scorer(study, made({**card.table(kept), "chain": "native"}, kept.parent))

    def ship(self, study: Study, asked: Training, trained: Trained, out: Path) -> Path:
        """The file as it is kept in a run, under the name of `out`, and its TOML."""
        assert trained.data is not None
        written = card.read(trained.data)
        assert written is not None
        named = {**written["recipe"], "name": out.stem}
        data = card.write(trained.data, named, seen=written["seen"], training=written["training"])
        return card.save(out, data, named)

    def _shared(self, study: Study) -> Reader:
        """One reader for all trainings: folds have images in common, and an image's copies are the same in all."""
        if self._reader is None:
            self._reader = Reader(self.backbone.backbone.input, threads=study.threads)
        return self._reader

    def _look(self, study: Study, samples: Sequence[Sample], view: str) -> Look:
        """Augmented copies in the `recompressed` view, which end in it; the view itself in the others."""
        own = study.arm(view)
        copies = augmented(self.backbone.backbone.course.copies, study.containers, study.seed)

        def look(position: int, copy: int | None) -> str:
            way = own if copy is None or view != "recompressed" else copies[copy]
            return way.chain(samples[position])

        return look

    def _recipe(self, asked: Training, model: bytes, inner: dict[str, float]) -> dict[str, Any]:
        from mllmrisk.detectors.finetuning import ship

        found = {str(rate): threshold(calibration(inner, asked.seen), rate) for rate in CARD_RATES}
        return ship.table(
            self.backbone.backbone,
            model,
            chain=chain(asked.view),
            trained_on=described(asked),
            thresholds={rate: value for rate, value in found.items() if isinstance(value, float)},
        )


def _examples(study: Study, samples: Sequence[Sample]) -> Examples:
    return Examples(
        [study.path(s) for s in samples],
        [str(s.image) for s in samples],
        np.array([s.label == "fake" for s in samples], dtype=bool),
        study.group_of(samples),
        np.array([s.paradigm for s in samples]),
        weights(study, samples),
    )


def _scorer(study: Study, detector: Detector) -> Scorer:
    def score(way: Arm, samples: Sequence[Sample]) -> dict[str, Score]:
        found: dict[str, Score] = {}
        for start in range(0, len(samples), _BATCH):
            batch = samples[start : start + _BATCH]
            scores = detector.score(
                [study.path(s) for s in batch], chains=[way.chain(s) for s in batch], threads=study.threads
            )
            found.update(zip((s.id for s in batch), scores, strict=True))
        return found

    return score


def made(argument: str | None) -> Finetune:
    """The family of a backbone."""
    if argument is None:
        raise UsageError(f"finetune needs a backbone: finetune:BACKBONE, one of {', '.join(recipe.names())}, or a TOML")
    return Finetune(argument)
