"""Families of trained detectors behind one interface: what a model reads, how it is trained, what is carried away.

`forensic`, `probe:ENCODER`, `finetune:BACKBONE`: the part after the colon is the family's own argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

from mllmrisk.experiments.study import Study
from mllmrisk.experiments.views import Arm
from mllmrisk.records import Sample, Score
from mllmrisk.registry import Registry

#: A trained model as a function of images under an arm: a score by sample id, calibrated logits.
Scorer: TypeAlias = Callable[[Arm, Sequence[Sample]], Mapping[str, Score]]


class Training(NamedTuple):
    """What a model is trained on.

    Attributes:
        view: how training images are looked at.
        trained_on: `all`, a paradigm or a generator, as the record says it.
        seen: the training images; no other image is touched.
        seed: of inner splits, initial weights and augmentation.
        checkpoints: a folder of this training alone, for what must outlive a kill; made when needed.
    """

    view: str
    trained_on: str
    seen: Sequence[Sample]
    seed: int
    checkpoints: Path


class Trained(NamedTuple):
    """A trained model and what is known of it.

    Attributes:
        scorer: the model.
        inner: calibrated logit of training images, each from a model or a calibration that had not seen its group,
            by sample id. Thresholds at false-alarm rates come from the photographs among them.
        inner_auc: AUC of `inner`.
        data: what a run keeps of it (:meth:`Family.restore` makes a scorer of it again); None where nothing is kept.
        record: who trained it on what: plain JSON.
    """

    scorer: Scorer
    inner: Mapping[str, float]
    inner_auc: float
    data: bytes | None
    record: Mapping[str, Any]


class Family(Protocol):
    """One way of making a detector out of labelled images.

    Attributes:
        name: the `detector` column of its figures: `forensic`, `probe:micro-clip`.
    """

    name: str

    def needs(self) -> Iterable[str]:
        """The optional dependency sets."""
        ...

    def train(self, study: Study, asked: Training) -> Trained:
        """Trains a model.

        Raises:
            ValueError: the images hold one label only.
        """
        ...

    def restore(self, study: Study, kept: Path) -> Scorer:
        """The model that :attr:`Trained.data` was written from."""
        ...

    def ship(self, study: Study, asked: Training, trained: Trained, out: Path) -> Path:
        """Writes what a stranger can run: one ONNX file at `out`, its TOML beside it.

        Returns:
            The TOML.
        """
        ...


class Maker(Protocol):
    """What the table holds: makes a family from what stands behind the colon of its name."""

    def __call__(self, argument: str | None) -> Family:
        """The family.

        Raises:
            UsageError: an argument is missing, or wrong.
        """
        ...


FAMILIES: Registry[Maker] = Registry(
    "family of detectors",
    "mllmrisk.families",
    {
        "forensic": "mllmrisk.experiments.forensic:made",
        "probe": "mllmrisk.experiments.probe:made",
        "finetune": "mllmrisk.experiments.finetune:made",
    },
)


def is_family(name: str) -> bool:
    """Whether a detector's name is that of a family, to be trained on the images of a run."""
    return name.partition(":")[0] in FAMILIES.names()


def load(name: str) -> Family:
    """The family of a name: `forensic`, `probe:ENCODER`.

    Raises:
        UsageError: no such family, or its argument is wrong.
    """
    kind, _, argument = name.partition(":")
    return FAMILIES.get(kind)(argument or None)
