"""Prompts from files: CSV (and TSV), JSONL, Parquet, and plain text with one prompt a line."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from mllmrisk.errors import UsageError
from mllmrisk.extras import optional
from mllmrisk.prompts import columns, places
from mllmrisk.prompts.base import Common, Seen
from mllmrisk.prompts.columns import Mapping, Row
from mllmrisk.prompts.fetching import download
from mllmrisk.records import Prompt


class File(Mapping, frozen=True, kw_only=True):
    """Keys of a set that is one file.

    Attributes:
        file: relative to the TOML, or to the user's folder (:func:`mllmrisk.prompts.places.home`).
        urls: where `mllmrisk prompts fetch` gets it, the first that answers.
        sha256: of the published file; where it is not known, the digest of what was read is in `seen`.
    """

    file: str
    urls: list[str] = msgspec.field(default_factory=list)
    sha256: str | None = None


class CsvFile(File, frozen=True, kw_only=True):
    """Keys of a CSV.

    Attributes:
        delimiter: one character.
        quotes: whether `"` quotes a cell; false for the many TSV files whose texts hold quotes as they are.
        header: names of the columns of a file that has no line of names.
    """

    delimiter: str = ","
    quotes: bool = True
    header: list[str] = msgspec.field(default_factory=list)


class _Table:
    """What the four formats share: finding, checking and mapping; each says how bytes become rows."""

    accepts: ClassVar[type[msgspec.Struct]] = File

    def __init__(self, common: Common, parameters: Any, folder: Path) -> None:
        self.common = common
        self.parameters = parameters
        self.folder = folder
        self.seen: Seen | None = None

    def read(self) -> list[Prompt]:
        """See :class:`~mllmrisk.prompts.base.PromptSource`."""
        path = self.path()
        data = places.content(path)
        digest = hashlib.sha256(data).hexdigest()
        if self.parameters.sha256 is not None and digest != self.parameters.sha256.lower():
            raise UsageError(
                f"{path}: not the file that {self.common.name} names: its sha256 is {digest}, not "
                f"{self.parameters.sha256}"
            )
        taken = columns.take(self.rows(data, path), self.common, self.parameters, str(path))
        self.seen = Seen(path, digest, taken.rows, taken.duplicates, taken.empty)
        return taken.prompts

    def path(self) -> Path:
        """Where the file is.

        Raises:
            UsageError: nowhere; the message says where it can be had.
        """
        keys = self.parameters
        found = places.find(keys.file, self.folder)
        if found is None:
            raise places.missing(
                self.common.name, keys.file, self.folder, self.common.published, fetched=bool(keys.urls)
            )
        return found

    def fetch(self, *, force: bool = False) -> Path:
        """See :class:`~mllmrisk.prompts.base.Fetches`."""
        keys = self.parameters
        found = places.find(keys.file, self.folder)
        if found is not None and not force:
            return found
        if not keys.urls:
            raise UsageError(
                f"prompt set {self.common.name}: no program can fetch it. {self.common.published}".rstrip()
                + f" Put it at {places.home() / keys.file}"
            )
        return download(keys.urls, places.home() / keys.file, keys.sha256)

    def rows(self, data: bytes, path: Path) -> Iterator[Row]:
        """The file's rows, its columns checked."""
        raise NotImplementedError


class Csv(_Table):
    """Comma- or otherwise separated values, UTF-8."""

    accepts: ClassVar[type[msgspec.Struct]] = CsvFile

    def rows(self, data: bytes, path: Path) -> Iterator[Row]:
        """See :class:`_Table`."""
        keys = self.parameters
        text = places.decoded(data, path)
        return csv_rows(text, path, keys, delimiter=keys.delimiter, quotes=keys.quotes, header=keys.header)


class Jsonl(_Table):
    """One JSON object a line, UTF-8."""

    def rows(self, data: bytes, path: Path) -> Iterator[Row]:
        """See :class:`_Table`."""
        return jsonl_rows(places.decoded(data, path), path, self.parameters)


class Parquet(_Table):
    """Parquet, through the extra `parquet`."""

    def rows(self, data: bytes, path: Path) -> Iterator[Row]:
        """See :class:`_Table`."""
        return parquet_rows(data, path, self.parameters)


class Text(_Table):
    """Plain text, UTF-8: one prompt a line; blank lines are none. Its columns: `text`, and `line` if asked for."""

    def rows(self, data: bytes, path: Path) -> Iterator[Row]:
        """See :class:`_Table`."""
        columns.check(["text", "line"], self.parameters, str(path))
        numbered = "line" in self.parameters.columns.named()
        for number, line in enumerate(places.decoded(data, path).split("\n"), 1):
            if line.strip():
                values = {"text": line.strip(), "line": number} if numbered else {"text": line.strip()}
                yield Row(values, f"{path}, line {number}")


def csv_rows(
    text: str,
    path: Path,
    mapping: Mapping,
    *,
    delimiter: str = ",",
    quotes: bool = True,
    header: Sequence[str] = (),
) -> Iterator[Row]:
    """The rows of a CSV.

    Args:
        text: the file's.
        path: for messages.
        mapping: which columns must be there.
        delimiter: between cells, one character.
        quotes: whether `"` quotes a cell.
        header: names of the columns where the file has no line of names.

    Raises:
        UsageError: a row has more or fewer cells than the header, or a quotation does not end.
    """
    if len(delimiter) != 1:
        raise UsageError(f"{path}: the delimiter is one character, not {delimiter!r}")
    lines = io.StringIO(text, newline="")
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    try:
        header = header or [name.strip() for name in next(reader, [])]
        columns.check(header, mapping, str(path))
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            if not cells:
                continue
            if len(cells) != len(header):
                raise UsageError(f"{where}: {len(cells)} cells, where {len(header)} are expected")
            yield Row(dict(zip(header, cells, strict=True)), where)
    except csv.Error as wrong:
        raise UsageError(f"{path}, line {reader.line_num}: {wrong}") from wrong


def jsonl_rows(text: str, path: Path, mapping: Mapping) -> Iterator[Row]:
    """The objects of a JSONL file; all have at least the columns of the first that are mapped.

    Raises:
        UsageError: a line is no JSON object.
    """
    first = True
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as wrong:  # not JSON, or thousands of brackets
            raise UsageError(f"{where}: {wrong}") from wrong
        if not isinstance(value, dict):
            raise UsageError(f"{where}: an object is expected")
        if first:
            columns.check(list(value), mapping, where)
            first = False
        yield Row(value, where)


def parquet_rows(data: bytes, path: Path, mapping: Mapping) -> Iterator[Row]:
    """The rows of a Parquet file.

    Raises:
        UsageError: pyarrow cannot read it.
        MissingExtraError: pyarrow is not installed.
    """
    parquet = optional("pyarrow.parquet", "a Parquet file of prompts", "parquet")
    try:
        table = parquet.read_table(io.BytesIO(data))
    except Exception as wrong:  # pyarrow has no common error class for broken files
        raise UsageError(f"{path}: {wrong}") from wrong
    columns.check(table.column_names, mapping, str(path))
    for number, row in enumerate(table.to_pylist()):
        yield Row(row, f"{path}, row {number}")
