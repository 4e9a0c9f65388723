"""What a prompt source is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Protocol

import msgspec

from mllmrisk.records import Prompt


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """What every prompt set's TOML has, whatever its kind.

    Attributes:
        name: the prompt set's name in reports.
        kind: which reader reads it (`csv`, `jsonl`, `parquet`, `hf`).
        rows: prompts that the published set has; checked where it says so, and what `--dry-run` counts before the
            text is at hand.
        licence, citation: of the texts.
        published: where the texts can be had, in words, for whoever has not got them.
        language: of texts without a column for it.
        category: of texts without a column for it; None for a benign set.
        level: likewise.
    """

    name: str
    version: str
    kind: str
    about: str
    rows: int | None = None
    licence: str = ""
    citation: str = ""
    published: str = ""
    language: str = "en"
    category: str | None = None
    level: str | None = None


class PromptSource(Protocol):
    """What the table of kinds holds: a class that reads prompts.

    Attributes:
        accepts: the keys of its TOML beyond :class:`Common`, with defaults.
    """

    accepts: ClassVar[type[msgspec.Struct]]

    def __init__(self, common: Common, parameters: Any, folder: Path) -> None:
        """Takes the TOML's keys; reads nothing yet."""
        ...

    def read(self) -> list[Prompt]:
        """The prompts, in their order, without duplicates.

        Raises:
            UsageError: the file is not there (the message says where it is published), is another one than its sha256
                says, or has other columns or another number of rows.
        """
        ...
