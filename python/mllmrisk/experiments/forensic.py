"""The family `forensic`: features from the Rust core and a fitted classifier (docs/forensic.md)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllmrisk import features
from mllmrisk.detectors import card
from mllmrisk.errors import UsageError
from mllmrisk.experiments import tabular
from mllmrisk.experiments.crossfit import CARD_RATES, calibration, threshold
from mllmrisk.experiments.families import Scorer, Trained, Training
from mllmrisk.experiments.study import Study, Table
from mllmrisk.experiments.tabular import Tabular
from mllmrisk.experiments.views import CROP, ENCODER, VIEWS, Arm
from mllmrisk.records import Sample

if TYPE_CHECKING:
    from mllmrisk.detectors.fitting import Fitted

NAME = "forensic"

#: What `forensic` reads: ternary patterns of luma and chroma. In cross-source tests they carried the signal, and the
#: classic families beside them only diluted it (docs/forensic.md).
FEATURES = ("ternary", "ternary_residual")
#: What is computed of every image at once: beside the above, the radial spectrum for the report.
VECTOR = ("radial", *FEATURES)


def patterns(study: Study, way: Arm) -> Table:
    """What `forensic` reads of every image under an arm."""
    table = study.features(way, VECTOR)
    if not table.samples:  # no image was large enough for features under this arm
        return table
    names = features.names(VECTOR)
    wanted = set(features.names(FEATURES))
    return table._replace(values=table.values[:, [i for i, name in enumerate(names) if name in wanted]])


class Forensic(Tabular):
    """Ternary patterns and a blend of logistic regression and gradient boosting."""

    augmented = True

    def __init__(self) -> None:
        """It has no argument."""
        super().__init__(NAME, patterns)

    def needs(self) -> Iterable[str]:
        """The optional dependency sets."""
        return ("train", "cpu")

    def keep(self, fitted: Fitted, asked: Training, inner: dict[str, float], record: dict[str, Any]) -> bytes:
        """The ONNX file with its card: what is measured is what is carried away."""
        from mllmrisk.detectors.forensic import Card, to_onnx

        thresholds = {str(rate): threshold(calibration(inner, asked.seen), rate) for rate in CARD_RATES}
        told = Card(
            kind=NAME,
            features=list(features.names(FEATURES)),
            chains=[chain(asked.view)],
            view=asked.view,
            thresholds={rate: value for rate, value in thresholds.items() if isinstance(value, float)},
            training=record,
            seen=digests(asked.seen),
        )
        return to_onnx(fitted, told)

    def restore(self, study: Study, kept: Path) -> Scorer:
        """The stored file, run by onnxruntime."""
        from mllmrisk.detectors.forensic import Forensic as Detector

        return self.scorer(study, Detector(kept).logits)

    def ship(self, study: Study, asked: Training, trained: Trained, out: Path) -> Path:
        """The file as it is kept in a run, and its TOML."""
        assert trained.data is not None
        table = {
            "name": out.stem,
            "kind": NAME,
            "version": "trained",
            "about": "features of the Rust core and a classifier, trained by mllmrisk",
            "licence": "its owner's",
            "citation": "mllmrisk, docs/forensic.md",
            "trained_on": tabular.described(asked),
        }
        return card.save(out, trained.data, table)


def chain(view: str) -> str:
    """The perturbation chain that a carried detector puts before its own reading."""
    return f"crop:{CROP}+{ENCODER}" if view == VIEWS[2] else "native"


def digests(seen: Sequence[Sample]) -> list[str]:
    """First 16 hex digits of the sha256 of each training image."""
    return sorted(s.image[:16] for s in seen if s.image is not None)


def made(argument: str | None) -> Forensic:
    """The family."""
    if argument is not None:
        raise UsageError(f"forensic has no argument: not forensic:{argument}")
    return Forensic()
