"""What a detector is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from mllmrisk.records import Score


class Detector(Protocol):
    """Scores images: the higher, the more surely fake.

    A score is raw: a logit or a log likelihood ratio, never a probability, since probabilities saturate and tie.

    Attributes:
        name: registered name, or the file's.
        version: digest of everything that decides a score (weights, preprocessing, reading of the output); part of
            every stored score's scorer name.
        thresholds: score from which an image is called fake, by the false-alarm rate that calibration photographs
            set; a rate that could not be set is absent.
        decision: score from which its author calls an image fake.
        seen: the first 16 hex digits of the sha256 of each training image, where known: figures on these are stamped.
    """

    name: str
    version: str
    thresholds: dict[float, float]
    decision: float = 0.0
    seen: frozenset[str]

    def score(
        self, images: Sequence[Path | bytes], *, chains: Sequence[str] | None = None, threads: int | None = None
    ) -> list[Score]:
        """Scores images, each after its perturbation chain; one that cannot be read is unscored with the reason."""
        ...


@runtime_checkable
class Streaming(Protocol):
    """A detector whose reading of images is apart from its model, so that one can go ahead of the other.

    `scored(parts(images))` is `score(images)`: a caller with many calls to make prepares the next while one is scored.
    """

    def parts(
        self, images: Sequence[Path | bytes], *, chains: Sequence[str] | None = None, threads: int | None = None
    ) -> Iterator[Any]:
        """What the model takes, part by part, each made when it is asked for; runs in any thread."""
        ...

    def scored(self, parts: Iterable[Any]) -> list[Score]:
        """The scores of the images behind some parts, in their order."""
        ...


@runtime_checkable
class Captioning(Protocol):
    """A detector that reads a caption which it makes of the image: the caption belongs to the score."""

    def captioned(
        self, images: Sequence[Path | bytes], *, chains: Sequence[str] | None = None, threads: int | None = None
    ) -> list[tuple[Score, str | None]]:
        """As :meth:`Detector.score`, each score with the caption behind it; None where there was no image."""
        ...


class Timing(NamedTuple):
    """Where a detector's time went, summed over its calls. `session / wall` is the share that the model was busy.

    Attributes:
        session_seconds: inside the model.
        wall_seconds: inside :meth:`Detector.score`.
        images: that were asked about.
    """

    session_seconds: float = 0.0
    wall_seconds: float = 0.0
    images: int = 0


class DetectorKind(Protocol):
    """What the table of kinds holds: makes a detector of that kind from its TOML."""

    def __call__(self, table: dict[str, Any], folder: Path, *, device: str) -> Detector:
        """Loads the detector.

        Args:
            table: the whole TOML.
            folder: where the TOML is; relative paths in it start there.
            device: `auto`, `cpu`, `cuda[:INDEX]` or `tensorrt[:INDEX]`.

        Raises:
            UsageError: the TOML or what it names is wrong, or the weights are not there.
            MissingExtraError: a package is not installed.
        """
        ...


class DetectorClass(Protocol):
    """What a registry entry is: a class (or a function) that makes a detector ready to score.

    Those of outside packages are called without an argument.
    """

    def __call__(self, *, device: str = "cpu") -> Detector:
        """Loads the detector on `auto`, `cpu`, `cuda[:INDEX]` or `tensorrt[:INDEX]`."""
        ...
