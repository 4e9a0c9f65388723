"""Prompts rebuilt from templates: sentences with slots, and a file of the user's own words to fill them.

So can a set be studied whose texts nobody may pass on: the sentence is public, the words are the user's. The same
sentences with another column of words are the set in another language, or its safe twins, with the same keys.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from mllmrisk.errors import UsageError
from mllmrisk.prompts import columns, places
from mllmrisk.prompts.base import Common, Seen
from mllmrisk.prompts.columns import Columns, Mapping, Row
from mllmrisk.prompts.tables import csv_rows
from mllmrisk.records import Prompt

_SLOT = re.compile(r"\{([^{}]*)\}")


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of a set made of templates.

    Attributes:
        templates: sentences; `{NAME}` is a slot.
        slots: slot → column of the file of words that fills it.
        file: a CSV of words, in the user's folder or beside the TOML: one row per thing, each with a key.
        key: its column of keys.
        categories: its column of categories, where it has one.
        sha256: of that file.
        twins_of: the set whose safe twins these prompts are: same templates, same keys, safe words.
        concepts_of: the set that asks for the same pictures, in other sentences or another language.
    """

    templates: list[str]
    slots: dict[str, str]
    file: str
    key: str = "key"
    categories: str | None = None
    sha256: str | None = None
    twins_of: str | None = None
    concepts_of: str | None = None


class Template:
    """Every template with every row of words: `SET/t1-KEY`, `SET/t2-KEY`, ..."""

    accepts: ClassVar[type[msgspec.Struct]] = Keys

    def __init__(self, common: Common, parameters: Keys, folder: Path) -> None:
        self.common = common
        self.parameters = parameters
        self.folder = folder
        self.seen: Seen | None = None
        used = {name for template in parameters.templates for name in _SLOT.findall(template)}
        what = f"prompt set {common.name}"
        if not parameters.templates or not used:
            raise UsageError(f"{what}: templates with at least one slot are needed: '... {{thing}} ...'")
        if odd := sorted(used.symmetric_difference(parameters.slots)):
            raise UsageError(f"{what}: the slot {odd[0]!r} must stand in the templates and in slots")
        for template in parameters.templates:
            if set(_SLOT.sub("", template)) & set("{}"):
                raise UsageError(f"{what}: a brace without its partner in {template[:40]!r}...")

    def read(self) -> list[Prompt]:
        """See :class:`~mllmrisk.prompts.base.PromptSource`."""
        keys = self.parameters
        path = places.find(keys.file, self.folder)
        if path is None:
            raise places.missing(self.common.name, keys.file, self.folder, self.common.published, fetched=False)
        data = places.content(path)
        digest = hashlib.sha256(data).hexdigest()
        if keys.sha256 is not None and digest != keys.sha256.lower():
            raise UsageError(f"{path}: its sha256 is {digest}, not {keys.sha256}")
        words = self._words(places.decoded(data, path), path)
        rows = [
            self._filled(number, template, row) for number, template in enumerate(keys.templates, 1) for row in words
        ]
        mapping = Mapping(
            columns=Columns(
                id="key", category="category", concept="key", twin_of=None if keys.twins_of is None else "key"
            ),
            twins_of=keys.twins_of,
            concepts_of=keys.concepts_of,
        )
        taken = columns.take(rows, self.common, mapping, str(path))
        self.seen = Seen(path, digest, taken.rows, taken.duplicates, taken.empty)
        return taken.prompts

    def _words(self, text: str, path: Path) -> list[Row]:
        keys = self.parameters
        first, *others = [keys.key, *keys.slots.values(), *([keys.categories] if keys.categories else [])]
        needed = Mapping(columns=Columns(text=first), where=dict.fromkeys(others))
        return list(csv_rows(text, path, needed))

    def _filled(self, number: int, template: str, row: Row) -> Row:
        keys = self.parameters

        def word(slot: re.Match[str]) -> str:
            found = str(row.values[keys.slots[slot[1]]]).strip()
            if not found:
                raise UsageError(f"{row.where}: no word in the column {keys.slots[slot[1]]!r}")
            return found

        key = str(row.values[keys.key]).strip()
        if not key:
            raise UsageError(f"{row.where}: no value in the column {keys.key!r}")
        values: dict[str, Any] = {
            "text": _SLOT.sub(word, template),  # in one pass: a word's own braces stay what they are
            "key": f"t{number}-{key}",
            "category": row.values[keys.categories] if keys.categories and keys.twins_of is None else None,
        }
        return Row(values, row.where)
