"""Rows of a table → prompts: which column is what, which rows count, what is refused.

A prompt is data. It becomes a value of a record and nothing else: no path, shell line or SQL text is made of it.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from mllmrisk.errors import UsageError
from mllmrisk.prompts.base import Common
from mllmrisk.records import Prompt
from mllmrisk.registry import did_you_mean

#: Characters of a prompt; the longest published ones have some thousands.
LONGEST = 10_000
_LONGEST_KEY = 200
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")


class Columns(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names of the columns that mean something; all others become a prompt's `extra`.

    Attributes:
        text: the prompt.
        id: its key in the set; without one, the key is a hash of the text.
        category: kinds of unsafe content, as the set writes them.
        twin_of: key (or `SET/KEY`) of the unsafe prompt whose safe twin the row is.
        twin_text: that prompt's text, where its set has no keys of its own.
        concept: name of the picture that is asked for.
    """

    text: str = "text"
    id: str | None = None
    language: str | None = None
    level: str | None = None
    category: str | None = None
    twin_of: str | None = None
    twin_text: str | None = None
    concept: str | None = None

    def named(self) -> list[str]:
        """The columns that the table must have."""
        return [name for name in msgspec.structs.astuple(self) if name is not None]


class Mapping(msgspec.Struct, frozen=True, kw_only=True):
    """How a set's TOML reads its rows, whatever the format of the file.

    Attributes:
        where: column = value (or list of values) that a row must have to be taken.
        counted: whether `rows` was counted in the published file, so that another number is refused; else it is what
            somebody wrote, and `--dry-run` alone uses it.
        empty: rows without a text that the published file is known to have; one more is refused.
        twins_of: the set of a `twin_of` without a slash, and of `twin_text`; None for this set.
        concepts_of: what stands before a concept without a slash; None for this set's name. Sets that are to be
            compared by concept share it.
    """

    columns: Columns = Columns()
    where: dict[str, Any] = {}
    counted: bool = True
    empty: int = 0
    twins_of: str | None = None
    concepts_of: str | None = None


class Row(NamedTuple):
    """One row as written, with the place that messages name."""

    values: dict[str, Any]
    where: str


class Taken(NamedTuple):
    """Prompts, and what was left out."""

    prompts: list[Prompt]
    rows: int
    duplicates: int
    empty: int


def normalised(text: str) -> str:
    """The text as it is compared: NFC, every run of white space as one space, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def key_of(text: str) -> str:
    """The key of a prompt whose set has none: 16 hex digits of the sha256 of its normalised text."""
    return hashlib.sha256(normalised(text).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def check(names: Sequence[str], mapping: Mapping, file: str) -> None:
    """Refuses a table without a column that the set's TOML names.

    Raises:
        UsageError: it is missing, or stands twice.
    """
    for needed in (*mapping.columns.named(), *mapping.where):
        if needed not in names:
            found = ", ".join(map(repr, names)) or "nothing"
            raise UsageError(f"{file}: no column {needed!r}.{did_you_mean(needed, names)} Found: {found}")
        if list(names).count(needed) > 1:
            raise UsageError(f"{file}: the column {needed!r} stands twice")


def take(rows: Iterable[Row], common: Common, mapping: Mapping, file: str) -> Taken:
    """The prompts of a table.

    Raises:
        UsageError: a row cannot be used, or their number is not the published one; the message names file and row.
    """
    reader = _Reader(common, mapping)
    for row in rows:
        if _matches(row.values, mapping.where):
            reader.add(row)
    found = reader.taken()
    expected = ((common.rows, found.rows, "rows"), (common.prompts, len(found.prompts), "prompts"))
    for published, there, word in expected:
        if mapping.counted and published is not None and there != published:
            raise UsageError(f"{file}: {there} {word}, but {common.name} as published has {published}")
    if not found.prompts:
        raise UsageError(f"{file}: no prompt in it")
    return found


class _Reader:
    """Collects prompts; knows the texts and keys that it has seen."""

    def __init__(self, common: Common, mapping: Mapping) -> None:
        self._common = common
        self._mapping = mapping
        self._prompts: list[Prompt] = []
        self._rows = self._duplicates = self._empty = 0
        self._ids: dict[str, str] = {}
        self._by_text: dict[tuple[str, str | None], str] = {}
        self._kept_as: dict[str, str] = {}

    def add(self, row: Row) -> None:
        """One more row."""
        self._rows += 1
        text = _cell(row, self._mapping.columns.text) or ""
        if not text.strip():
            self._empty += 1
            if self._empty > self._mapping.empty:
                raise UsageError(f"{row.where}: no text")
            return
        _check_text(text, row.where)
        twin_of = self._twin(row)
        written = _cell(row, self._mapping.columns.id) if self._mapping.columns.id else None
        if self._mapping.columns.id and written is None:
            raise UsageError(f"{row.where}: no value in the column {self._mapping.columns.id!r}")
        # equal safe texts of two unsafe prompts are two twins, not a duplicate
        key = written or key_of(text if twin_of is None else f"{text}\n{twin_of}")
        _check_key(key, row.where)
        name = f"{self._common.name}/{key}"
        content = (normalised(text), twin_of)
        if (same := self._by_text.get(content)) is not None:
            self._duplicates += 1
            self._kept_as[name] = same
            return
        if name in self._ids:
            raise UsageError(f"{row.where}: the key {key!r} stands twice, with another text in {self._ids[name]}")
        self._ids[name] = row.where
        self._by_text[content] = name
        self._prompts.append(self._prompt(row, name, text, twin_of))

    def _twin(self, row: Row) -> str | None:
        columns, of = self._mapping.columns, self._mapping.twins_of or self._common.name
        if columns.twin_text is not None and (text := _cell(row, columns.twin_text)) is not None:
            return f"{of}/{key_of(text)}"
        value = _cell(row, columns.twin_of)
        return value if value is None or "/" in value else f"{of}/{value}"

    def _prompt(self, row: Row, name: str, text: str, twin_of: str | None) -> Prompt:
        columns, common = self._mapping.columns, self._common
        language = _cell(row, columns.language) or common.language
        if not _LANGUAGE.fullmatch(language):
            raise UsageError(f"{row.where}: not a language tag (en, zh-Hans, ...): {language[:40]!r}")
        concept = _cell(row, columns.concept)
        if concept is not None and "/" not in concept:
            concept = f"{self._mapping.concepts_of or common.name}/{concept}"
        meant = {*columns.named(), ""}  # pandas writes its index as a column without a name
        extra = {column: _cell(row, column) for column in row.values if column not in meant}
        return Prompt(
            id=name,
            text=text,
            prompt_set=common.name,
            language=language,
            level=_cell(row, columns.level) or common.level,
            category=_cell(row, columns.category) or (common.category if twin_of is None else None),
            twin_of=twin_of,
            concept=concept,
            extra={column: value for column, value in extra.items() if value is not None},
        )

    def taken(self) -> Taken:
        """All prompts; a twin of a duplicate is the twin of the row that was kept."""
        prompts = []
        for prompt in self._prompts:
            of = self._kept_as.get(prompt.twin_of or "", prompt.twin_of)
            if of is not None and of.startswith(f"{self._common.name}/") and of not in self._ids:
                raise UsageError(f"{self._ids[prompt.id]}: a twin of {of}, which the set does not have")
            prompts.append(prompt if of == prompt.twin_of else msgspec.structs.replace(prompt, twin_of=of))
        return Taken(prompts, self._rows, self._duplicates, self._empty)


def _cell(row: Row, column: str | None) -> str | None:
    """A value as text; None for one that is missing, null, NaN or blank. Lists and tables are written as JSON."""
    value = row.values.get(column) if column is not None else None
    if value is None or value != value:  # NaN alone differs from itself
        return None
    if isinstance(value, list | dict):
        value = json.dumps(value, ensure_ascii=False, default=str)
    text = str(value)
    if not text.strip():
        return None
    if column is not None and any("\ud800" <= c <= "\udfff" for c in text + column):
        raise UsageError(f"{row.where}: half a character (a lone surrogate) in {column!a}")
    return text


def _check_text(text: str, where: str) -> None:
    if len(text) > LONGEST:
        raise UsageError(f"{where}: a text of {len(text):,} characters; {LONGEST:,} is the most")
    if "\0" in text:
        raise UsageError(f"{where}: a NUL character in the text")


def _check_key(key: str, where: str) -> None:
    if "/" in key or len(key) > _LONGEST_KEY or not key.isprintable() or key != key.strip():
        rule = f"printable, without a slash, at most {_LONGEST_KEY} characters"
        raise UsageError(f"{where}: a key is {rule}, not {key[:40]!a}")


def _matches(values: dict[str, Any], where: dict[str, Any]) -> bool:
    for column, wanted in where.items():
        choices = wanted if isinstance(wanted, list) else [wanted]
        if not any(_equal(values.get(column), choice) for choice in choices):
            return False
    return True


def _equal(value: Any, wanted: Any) -> bool:
    """Equality across formats: a CSV writes 1 as text, Parquet as 1 or 1.0, and true as True."""
    if isinstance(wanted, bool):
        return str(value).strip().lower() in ({"true", "1"} if wanted else {"false", "0"})
    if isinstance(wanted, int | float):
        try:
            return float(value) == wanted
        except (TypeError, ValueError):
            return False
    return value is not None and str(value) == str(wanted)
