"""What a prompt source is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import msgspec

from mllmrisk.records import Prompt


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """What every prompt set's TOML has, whatever its kind.

    Attributes:
        name: the prompt set's name in reports.
        kind: which reader reads it (`csv`, `jsonl`, `parquet`, `text`, `hf`, `template`).
        rows: rows that the published file has (those that `where` keeps), checked when it is read.
        prompts: what is left of them without duplicates and rows without a text; None where that is `rows`.
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
    prompts: int | None = None
    licence: str = ""
    citation: str = ""
    published: str = ""
    language: str = "en"
    category: str | None = None
    level: str | None = None

    @property
    def expected(self) -> int | None:
        """Prompts that the set will give: what `--dry-run` counts before the text is at hand."""
        return self.rows if self.prompts is None else self.prompts


class Seen(NamedTuple):
    """What a reader met.

    Attributes:
        file: what was read.
        sha256: of its bytes, pinned or not: a report can say which file it was.
        rows: rows that the set's `where` kept.
        duplicates: rows left out because an earlier one has the same text (NFC, white space as one space).
        empty: rows left out because they have no text.
    """

    file: Path
    sha256: str
    rows: int
    duplicates: int = 0
    empty: int = 0


class PromptSource(Protocol):
    """What the table of kinds holds: a class that reads prompts.

    Attributes:
        accepts: the keys of its TOML beyond :class:`Common`, with defaults.
        seen: None until :meth:`read` has read.
    """

    accepts: ClassVar[type[msgspec.Struct]]
    seen: Seen | None

    def __init__(self, common: Common, parameters: Any, folder: Path) -> None:
        """Takes the TOML's keys; reads nothing yet."""
        ...

    def read(self) -> list[Prompt]:
        """The prompts, in their order, without duplicates. It never asks the network.

        Raises:
            UsageError: the file is not there (the message says where it is published), is another one than its sha256
                says, or has other columns or another number of rows.
        """
        ...


@runtime_checkable
class Fetches(Protocol):
    """A source that can bring its file onto this machine: asked by `mllmrisk prompts fetch` and by nothing else."""

    def fetch(self, *, force: bool = False) -> Path:
        """Downloads the published file, checks it, and says where it lies; one that is there is kept unless `force`.

        Raises:
            UsageError: it is published nowhere that a program can ask, it cannot be had, or it is another file.
        """
        ...
