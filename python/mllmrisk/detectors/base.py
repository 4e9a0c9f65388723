"""What a detector is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mllmrisk.records import Score


class Detector(Protocol):
    """Scores images: the higher, the more surely fake.

    Attributes:
        name: registered name, or the file's stem.
        version: digest of the weights; part of every stored score's scorer name.
        thresholds: score from which an image is called fake, by the false-alarm rate that calibration photographs
            set; a rate that could not be set is absent.
        seen: the first 16 hex digits of the sha256 of each training image, where known: figures on these are stamped.
    """

    name: str
    version: str
    thresholds: dict[float, float]
    seen: frozenset[str]

    def score(
        self, images: Sequence[Path | bytes], *, chains: Sequence[str] | None = None, threads: int | None = None
    ) -> list[Score]:
        """Scores images, each after its perturbation chain; one that cannot be read is unscored with the reason."""
        ...
