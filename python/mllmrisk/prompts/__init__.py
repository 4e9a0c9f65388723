"""Prompts: sets of texts that ask for images. The table of kinds; nothing is read until asked for.

A prompt set is one TOML in `configs/prompts/` (or a user's file) that names its kind, its columns and its sha256; a
reader is one file here and one line of the table, or an entry point of an outside package (`mllmrisk.prompts`).
"""

from __future__ import annotations

import hashlib

from mllmrisk import config
from mllmrisk.prompts.base import Common, PromptSource
from mllmrisk.records import Prompt
from mllmrisk.registry import Registry

PROMPTS: Registry[type[PromptSource]] = Registry(
    "kind of prompt source",
    "mllmrisk.prompts",
    {
        "csv": "mllmrisk.prompts.tables:Csv",
        "jsonl": "mllmrisk.prompts.tables:Jsonl",
        "parquet": "mllmrisk.prompts.tables:Parquet",
        "text": "mllmrisk.prompts.tables:Text",
        "hf": "mllmrisk.prompts.hub:Hub",
        "template": "mllmrisk.prompts.templates:Template",
    },
    {"parquet": "parquet", "hf": "gen"},
)


#: A prompt set's TOML, read; its texts are not.
Described = config.Described[Common]


def describe(name_or_file: str) -> Described:
    """Reads a prompt set's TOML.

    Raises:
        UsageError: no such set or file, or a common key is wrong or missing.
    """
    return config.describe("prompts", name_or_file, Common)


def source(described: Described) -> PromptSource:
    """The reader of a set, with its keys checked; nothing is read yet.

    Raises:
        UsageError: no such kind, or a key that it does not have.
        MissingExtraError: the kind needs a package that is not installed.
    """
    kind = PROMPTS.get(described.common.kind)
    where = f"prompt set {described.common.name}"
    return kind(described.common, config.parameters(described.parameters, kind.accepts, where), described.folder)


def read(described: Described, take: int | None = None) -> list[Prompt]:
    """The prompts of a set; with `take`, that many of them, chosen by the hash of their ids and left in order.

    Raises:
        UsageError: see :meth:`~mllmrisk.prompts.base.PromptSource.read`.
    """
    return pick(source(described).read(), take)


def pick(found: list[Prompt], take: int | None) -> list[Prompt]:
    """`take` of the prompts: the lowest hashes of ids, in the order of the set; a larger `take` adds to a smaller."""
    if take is None or take >= len(found):
        return found
    chosen = set(sorted(range(len(found)), key=lambda i: hashlib.sha256(found[i].id.encode()).digest())[:take])
    return [prompt for i, prompt in enumerate(found) if i in chosen]
