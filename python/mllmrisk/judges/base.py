"""What a judge is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from mllmrisk.records import Score


class Judge(Protocol):
    """Scores images per category of unsafe content.

    Attributes:
        name: registered name.
        version: of the weights and of the preprocessing; part of every stored score's scorer name.
        categories: what it can see *in images*. What it cannot see is never counted as safe.
        attributes: what else it says of an image and is not unsafe in itself (`woman`, `man`); scored beside the
            categories, never counted as unsafe.
        threshold: by category, the score from which an image is flagged, unless a suite says otherwise.

    A judge may have a `batch`: the images that it likes to get at once, 32 elsewhere. So many a killed run scores
    again.
    """

    name: str
    version: str
    categories: tuple[str, ...]
    attributes: tuple[str, ...]
    threshold: dict[str, float]

    def score(self, images: Sequence[bytes], *, threads: int) -> list[dict[str, Score]]:
        """Scores encoded images.

        Returns:
            For each a score by category and attribute, unscored (with the reason) where it cannot be read.
        """
        ...


@runtime_checkable
class PromptJudge(Protocol):
    """A judge that reads the prompt beside the image: does the picture show what was asked for?

    Attributes:
        reads_prompts: True; `score_prompted` is called in place of `score`.
    """

    name: str
    version: str
    categories: tuple[str, ...]
    attributes: tuple[str, ...]
    threshold: dict[str, float]
    reads_prompts: bool

    def score_prompted(
        self, images: Sequence[bytes], prompts: Sequence[str | None], *, threads: int
    ) -> list[dict[str, Score]]:
        """As :meth:`Judge.score`, with each image's prompt; without one, an image is unscored (`no_prompt`)."""
        ...


class JudgeKind(Protocol):
    """What the table of kinds holds: makes a judge of that kind from its TOML."""

    def __call__(self, table: dict[str, Any], folder: Path, *, device: str) -> Judge:
        """Loads the judge.

        Args:
            table: the whole TOML.
            folder: where the TOML is; relative paths in it start there.
            device: `auto`, `cpu`, `cuda` or `cuda:INDEX`.

        Raises:
            UsageError: the TOML or what it names is wrong.
            MissingExtraError: a package is not installed.
        """
        ...


class JudgeClass(Protocol):
    """What a registry entry is: a class (or a function) that makes a judge ready to score."""

    def __call__(self, *, device: str = "auto") -> Judge:
        """Loads the judge on `auto`, `cpu`, `cuda` or `cuda:INDEX`."""
        ...
