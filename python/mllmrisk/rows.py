"""Rows of a manifest as they are written: CSV, JSONL, Parquet, folders in people's conventions, WebDataset tars.

A row is text and numbers by column, with the place that messages name; what they mean is decided in `manifest`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from mllmrisk.errors import ManifestError
from mllmrisk.extras import optional
from mllmrisk.registry import did_you_mean
from mllmrisk.tars import SUFFIXES, Span, members

#: Folder names with a meaning: (label, paradigm).
FOLDERS: Mapping[str, tuple[str, str]] = {
    "0_real": ("real", "real"),
    "real": ("real", "real"),
    "nature": ("real", "real"),
    "0": ("real", "real"),
    "1_fake": ("fake", "unknown"),
    "fake": ("fake", "unknown"),
    "ai": ("fake", "unknown"),
    "1": ("fake", "unknown"),
    "diffusion": ("fake", "diffusion"),
    "mllm": ("fake", "mllm"),
    "mllm-conditioned": ("fake", "mllm-conditioned"),
}


class Row(NamedTuple):
    """One row as written, with the place to name in messages."""

    values: dict[str, Any]
    where: str
    member: str | None = None
    file: Path | None = None
    span: Span | None = None


def file_rows(path: Path, *, labelled: bool = True) -> Iterator[Row]:
    """The rows of a manifest file, or of a tar.

    Args:
        path: the file.
        labelled: whether a column of labels must be there.

    Raises:
        ManifestError: no such kind of file, or it cannot be read as what its suffix says.
    """
    suffix = path.suffix.lower()
    if suffix == ".csv":
        yield from _csv_rows(path, labelled)
    elif suffix in {".jsonl", ".ndjson"}:
        yield from _jsonl_rows(path, labelled)
    elif suffix == ".parquet":
        yield from _parquet_rows(path, labelled)
    elif suffix == ".tar":
        yield from _tar_rows(path, path.name)
    else:
        raise ManifestError(f"{path}: a manifest is .csv, .jsonl, .parquet, .tar or a folder")


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as wrong:
        raise ManifestError(f"{path} cannot be read: {wrong.strerror}") from wrong
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        line = data.count(b"\n", 0, wrong.start) + 1
        raise ManifestError(
            f"{path}, line {line}: not UTF-8 (byte 0x{data[wrong.start]:02x}); save the manifest as UTF-8"
        ) from wrong


def _csv_rows(path: Path, labelled: bool) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        _check_columns([name.strip() for name in reader.fieldnames or ()], path, labelled)
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                raise ManifestError(f"{where}: {len(reader.fieldnames or [])} columns expected")
            yield Row({key.strip(): value for key, value in row.items() if value != ""}, where)
    except csv.Error as wrong:
        raise ManifestError(f"{path}, line {reader.reader.line_num}: {wrong}") from wrong


def _jsonl_rows(path: Path, labelled: bool) -> Iterator[Row]:
    first = True
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        values = _json_object(line, where)
        if first:
            _check_columns(list(values), path, labelled)
            first = False
        yield Row({key: item for key, item in values.items() if item is not None and item != ""}, where)


def _json_object(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as wrong:  # not JSON, a number of thousands of digits, thousands of brackets
        raise ManifestError(f"{where}: {wrong}") from wrong
    if not isinstance(value, dict):
        raise ManifestError(f"{where}: an object is expected")
    return value


def _parquet_rows(path: Path, labelled: bool) -> Iterator[Row]:
    parquet = optional("pyarrow.parquet", "a Parquet manifest", "parquet")
    try:
        table = parquet.read_table(path)
    except Exception as wrong:  # pyarrow has no common error class for broken files
        raise ManifestError(f"{path}: {wrong}") from wrong
    _check_columns(table.column_names, path, labelled)
    for number, row in enumerate(table.to_pylist()):
        # a gap is null, an empty text or NaN, which alone differs from itself
        kept = {key: value for key, value in row.items() if value is not None and value != "" and value == value}
        yield Row(kept, f"{path}, row {number}")


def folder_rows(root: Path) -> Iterator[Row]:
    """Images below a folder; the nearest folder name with a meaning gives the label.

    Symbolic links to folders are not followed, so that a loop of links ends.
    """
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() == ".tar" and path.is_file():
            written = str(path.relative_to(root))
            inside(root, written, str(path))
            yield from _tar_rows(path, written)
        if path.suffix.lower() not in SUFFIXES or path.is_dir():
            continue
        relative = path.relative_to(root)
        yield Row({"path": str(relative), **from_folders(relative.parent.parts)}, str(path))


def from_folders(parts: tuple[str, ...]) -> dict[str, str]:
    """What the names of folders above an image say of it: label, paradigm, source, generator."""
    for depth, part in reversed(list(enumerate(parts))):
        meaning = FOLDERS.get(part.lower())
        if meaning is not None:
            label, paradigm = meaning
            above = "/".join(parts[:depth])
            below = "/".join(parts[depth + 1 :])
            named = below or above
            found = {"label": label, "paradigm": paradigm}
            if named:
                found["source"] = named
                if label == "fake":
                    found["generator"] = named
            return found
    return {}


def _tar_rows(path: Path, written: str) -> Iterator[Row]:
    """WebDataset: members `key.jpg`, `key.json` (columns) or `key.cls` (0 real, 1 fake).

    Args:
        path: the tar.
        written: how rows name it, relative to the manifest's folder; a member's path is `written/member`.
    """
    found: dict[str, list[tuple[str, Span]]] = {}
    facts: dict[str, dict[str, Any]] = {}
    for name, key, span, text in members(path):
        where = f"{path}, {name}"
        if text is None:
            found.setdefault(key, []).append((name, span))
        elif name.endswith(".json"):
            facts.setdefault(key, {}).update(_json_object(text, where))
        elif text.strip() in {"0", "1"}:
            facts.setdefault(key, {})["label"] = "fake" if text.strip() == "1" else "real"
        else:
            raise ManifestError(f"{where}: 0 (real) or 1 (fake) expected, not {text.strip()[:40]!r}")
    for key, images in found.items():
        for name, span in images:
            values = {
                **from_folders(PurePosixPath(name).parent.parts),
                **facts.get(key, {}),
                "path": f"{written}/{name}",
            }
            kept = {column: value for column, value in values.items() if value is not None and value != ""}
            yield Row(kept, f"{path}, {name}", name, path, span)


def _check_columns(names: Sequence[str], path: Path, labelled: bool) -> None:
    for needed, meaning in (("path", ""), ("label", " (real or fake)")):
        if needed not in names and (labelled or needed == "path"):
            found = ", ".join(sorted(map(repr, names))) or "nothing"
            raise ManifestError(
                f"{path}: needs a column {needed!r}{meaning}.{did_you_mean(needed, names)} Found: {found}"
            )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ManifestError(f"{path}: the column {twice[0]!r} stands twice")


def inside(root: Path, written: str, where: str) -> Path:
    """The file behind a manifest's path; one that leads out of the manifest's folder is refused."""
    if "\0" in written:
        raise ManifestError(f"{where}: a path with a NUL byte")
    try:
        file = (root / written).resolve()
        base = root.resolve()
    except (OSError, RuntimeError) as wrong:  # a loop of links
        raise ManifestError(f"{where}: {wrong}") from wrong
    if not file.is_relative_to(base):
        raise ManifestError(f"{where}: {written} points outside the manifest's folder")
    return root / written
