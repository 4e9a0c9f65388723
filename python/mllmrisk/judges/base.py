"""What a judge is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mllmrisk.records import Score


class Judge(Protocol):
    """Scores images per category of unsafe content.

    Attributes:
        name: registered name.
        version: of the weights and of the preprocessing; part of every stored score's scorer name.
        categories: what it can see *in images*. What it cannot see is never counted as safe.
        threshold: by category, the score from which an image is flagged, unless a suite says otherwise.
    """

    name: str
    version: str
    categories: tuple[str, ...]
    threshold: dict[str, float]

    def score(self, images: Sequence[bytes], *, threads: int) -> list[dict[str, Score]]:
        """Scores encoded images; for each a score by category, unscored (with the reason) where it cannot be read."""
        ...


class JudgeClass(Protocol):
    """What a registry entry is: a class (or a function) that makes a judge ready to score."""

    def __call__(self, *, device: str = "auto") -> Judge:
        """Loads the judge on `auto`, `cpu`, `cuda` or `cuda:INDEX`."""
        ...
