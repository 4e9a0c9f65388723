"""Given images: a manifest (CSV, JSONL, Parquet), a folder in the conventions that people have, or WebDataset tars.

Each becomes a list of :class:`Entry`, checked as a whole before any image is read (DESIGN 5.2).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import msgspec

from mllmrisk.errors import ManifestError, MissingExtraError
from mllmrisk.records import PARADIGMS, Sample
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

_TEXT_COLUMNS = ("path", "label", "paradigm", "generator", "prompt_id", "prompt", "prompt_set", "level", "language")
_COLUMNS = frozenset({*_TEXT_COLUMNS, "index", "source", "sha256", "seed"})


class Entry(NamedTuple):
    """One image of a manifest: a sample without its bytes, and where they are.

    Attributes:
        sample: what the manifest says of it.
        file: the image's own file, or the tar that holds it.
        member: its name in the tar, None outside one.
        sha256: what the manifest says that the bytes are.
        span: its place in the tar.
    """

    sample: Sample
    file: Path
    member: str | None
    sha256: str | None
    span: Span | None = None

    def read(self) -> bytes:
        """The stored bytes.

        Raises:
            OSError: the file or the tar's member cannot be read.
        """
        if self.span is None:
            return self.file.read_bytes()
        with self.file.open("rb") as tar:
            tar.seek(self.span.offset)
            data = tar.read(self.span.size)
        if len(data) != self.span.size:
            raise OSError(f"{self.file}: {self.member} is cut")
        return data


class Manifest(NamedTuple):
    """All entries, the digest of what was read, and notes for the report (duplicates left out, ...)."""

    entries: list[Entry]
    digest: str
    notes: list[str]


def read(path: Path, limit: int | None = None) -> Manifest:
    """Reads a manifest, a folder or a tar.

    Args:
        path: a `.csv`, `.jsonl`, `.parquet` file, a folder of images, a `.tar`, or a folder of tars.
        limit: at most so many images of each (label, paradigm, source), the first ones.

    Raises:
        ManifestError: it cannot be used; the message names the row and what is wrong.
    """
    if path.is_dir():
        rows = list(_folder_rows(path))
        if not rows:
            raise ManifestError(f"{path} holds no image (looked for {', '.join(sorted(SUFFIXES))} and .tar)")
        root = path
    elif path.is_file():
        rows = list(_file_rows(path))
        root = path.parent
    else:
        raise ManifestError(f"no such manifest or folder: {path}")
    entries, notes = _entries(rows, root, path)
    entries = _limited(entries, limit)
    check_labels(entries, path)
    text = "\n".join(f"{e.sample.id} {e.sample.label} {e.sha256}" for e in entries)
    return Manifest(entries, hashlib.sha256(text.encode()).hexdigest()[:16], notes)


class _Row(NamedTuple):
    """One row as written, with the place to name in messages."""

    values: dict[str, Any]
    where: str
    member: str | None = None
    file: Path | None = None
    span: Span | None = None


def _file_rows(path: Path) -> Iterator[_Row]:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        yield from _csv_rows(path)
    elif suffix in {".jsonl", ".ndjson"}:
        yield from _jsonl_rows(path)
    elif suffix == ".parquet":
        yield from _parquet_rows(path)
    elif suffix == ".tar":
        yield from _tar_rows(path, path.name)
    else:
        raise ManifestError(f"{path}: a manifest is .csv, .jsonl, .parquet, .tar or a folder")


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        line = data.count(b"\n", 0, wrong.start) + 1
        raise ManifestError(
            f"{path}, line {line}: not UTF-8 (byte 0x{data[wrong.start]:02x}); save the manifest as UTF-8"
        ) from wrong


def _csv_rows(path: Path) -> Iterator[_Row]:
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        _check_columns([name.strip() for name in reader.fieldnames or ()], path)
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                raise ManifestError(f"{where}: {len(reader.fieldnames or [])} columns expected")
            yield _Row({key.strip(): value for key, value in row.items() if value != ""}, where)
    except csv.Error as wrong:
        raise ManifestError(f"{path}, line {reader.line_num}: {wrong}") from wrong


def _jsonl_rows(path: Path) -> Iterator[_Row]:
    first = True
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        values = _json_object(line, where)
        if first:
            _check_columns(list(values), path)
            first = False
        yield _Row({key: item for key, item in values.items() if item is not None and item != ""}, where)


def _json_object(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as wrong:  # not JSON, a number of thousands of digits, thousands of brackets
        raise ManifestError(f"{where}: {wrong}") from wrong
    if not isinstance(value, dict):
        raise ManifestError(f"{where}: an object is expected")
    return value


def _parquet_rows(path: Path) -> Iterator[_Row]:
    try:
        import pyarrow.parquet as parquet
    except ModuleNotFoundError as missing:
        raise MissingExtraError("a Parquet manifest", "parquet") from missing
    try:
        table = parquet.read_table(path)
    except Exception as wrong:  # pyarrow has no common error class for broken files
        raise ManifestError(f"{path}: {wrong}") from wrong
    _check_columns(table.column_names, path)
    for number, row in enumerate(table.to_pylist()):
        # a gap is null, an empty text or NaN, which alone differs from itself
        kept = {key: value for key, value in row.items() if value is not None and value != "" and value == value}
        yield _Row(kept, f"{path}, row {number}")


def _folder_rows(root: Path) -> Iterator[_Row]:
    """Images below a folder; the nearest folder name with a meaning gives the label.

    Symbolic links to folders are not followed, so that a loop of links ends.
    """
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() == ".tar" and path.is_file():
            written = str(path.relative_to(root))
            _inside(root, written, str(path))
            yield from _tar_rows(path, written)
        if path.suffix.lower() not in SUFFIXES or path.is_dir():
            continue
        relative = path.relative_to(root)
        yield _Row({"path": str(relative), **_from_folders(relative.parent.parts)}, str(path))


def _from_folders(parts: tuple[str, ...]) -> dict[str, str]:
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


def _tar_rows(path: Path, written: str) -> Iterator[_Row]:
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
                **_from_folders(PurePosixPath(name).parent.parts),
                **facts.get(key, {}),
                "path": f"{written}/{name}",
            }
            kept = {column: value for column, value in values.items() if value is not None and value != ""}
            yield _Row(kept, f"{path}, {name}", name, path, span)


def _entries(rows: Iterable[_Row], root: Path, path: Path) -> tuple[list[Entry], list[str]]:
    seen_path: dict[str, str] = {}
    seen_hash: dict[str, tuple[str, str]] = {}
    entries: list[Entry] = []
    duplicates = 0
    tars: dict[Path, dict[str, Span]] = {}
    for row in rows:
        entry = _entry(row, root, tars)
        label = entry.sample.label
        if (before := seen_path.get(entry.sample.id)) is not None:
            if before != label:
                raise ManifestError(f"{row.where}: {entry.sample.path} stands twice, once {before} and once {label}")
            duplicates += 1
            continue
        seen_path[entry.sample.id] = label
        if entry.sha256 is not None:
            known = seen_hash.get(entry.sha256)
            if known is not None and known[0] != label:
                raise ManifestError(f"{row.where}: the same bytes as {known[1]}, once {known[0]} and once {label}")
            if known is not None:
                duplicates += 1
                continue
            seen_hash[entry.sha256] = (label, str(entry.sample.path))
        entries.append(entry)
    if not entries:
        raise ManifestError(f"{path} names no image")
    notes = [f"{duplicates} duplicate row(s) left out"] if duplicates else []
    return entries, notes


def _check_columns(names: Sequence[str], path: Path) -> None:
    for needed, meaning in (("path", ""), ("label", " (real or fake)")):
        if needed not in names:
            found = ", ".join(sorted(map(repr, names))) or "nothing"
            raise ManifestError(
                f"{path}: needs a column {needed!r}{meaning}.{did_you_mean(needed, names)} Found: {found}"
            )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ManifestError(f"{path}: the column {twice[0]!r} stands twice")


def _entry(row: _Row, root: Path, tars: dict[Path, dict[str, Span]]) -> Entry:
    values = row.values
    _check_text(values, row.where)
    if "path" not in values:
        raise ManifestError(f"{row.where}: no path")
    if "label" not in values:
        folders = ", ".join(name for name in FOLDERS if not name.isdigit())
        raise ManifestError(
            f"{row.where}: no label (real or fake); a manifest has a column for it, a folder tells it by names "
            f"such as {folders}, a tar also by .cls or .json members"
        )
    label = str(values["label"]).strip().lower()
    label = {"0": "real", "1": "fake"}.get(label, label)
    if label not in {"real", "fake"}:
        raise ManifestError(f"{row.where}: label must be real or fake, not {values['label']!r}")
    paradigm = str(values.get("paradigm", "real" if label == "real" else "unknown")).strip().lower()
    if paradigm not in PARADIGMS:
        raise ManifestError(f"{row.where}: no paradigm {paradigm!r}.{did_you_mean(paradigm, PARADIGMS)}")
    if (paradigm == "real") != (label == "real"):
        raise ManifestError(f"{row.where}: label {label} with paradigm {paradigm}")
    file, member, span = _place(row, root, tars)
    sha256 = values.get("sha256")
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", str(sha256).lower()):
        raise ManifestError(f"{row.where}: not a sha256: {sha256!r}")
    written = printable(str(values["path"]))

    def text(name: str) -> str | None:
        return str(values[name]) if name in values else None

    sample = Sample(
        id=hashlib.sha256(written.encode()).hexdigest()[:16],
        label=label,  # type: ignore[arg-type]  # checked above
        paradigm=paradigm,  # type: ignore[arg-type]  # checked above
        generator=text("generator"),
        prompt_id=text("prompt_id"),
        prompt=text("prompt"),
        prompt_set=text("prompt_set"),
        level=text("level"),
        language=text("language"),
        index=_whole("index", values.get("index", 0), row.where),
        seed=_whole("seed", values["seed"], row.where) if "seed" in values else None,
        source=text("source"),
        path=written,
        extra={str(k): str(v) for k, v in values.items() if k not in _COLUMNS},
    )
    return Entry(sample, file, member, None if sha256 is None else str(sha256).lower(), span)


def _whole(name: str, value: object, where: str) -> int:
    """A whole number; `3.0` is one, as tools write a column that has gaps."""
    try:
        number = int(str(value).removesuffix(".0"))
    except ValueError as wrong:
        raise ManifestError(f"{where}: {name} must be a whole number, not {str(value)[:40]!r}") from wrong
    if abs(number) >= 1 << 63:
        raise ManifestError(f"{where}: {name} is too large")
    return number


def printable(text: str) -> str:
    r"""Text that a database can hold: bytes of a file name that are not UTF-8 become `\xff`."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _check_text(values: Mapping[str, Any], where: str) -> None:
    """Refuses halves of surrogate pairs, which JSON can write and nothing can store."""
    for name, value in values.items():
        try:
            f"{name}{value}".encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as wrong:
            raise ManifestError(f"{where}: half a character (a lone surrogate) in {name!a}") from wrong


def _place(row: _Row, root: Path, tars: dict[Path, dict[str, Span]]) -> tuple[Path, str | None, Span | None]:
    """(file, member, span) of a row: a file, or `shard.tar/member`."""
    if row.file is not None:
        return row.file, row.member, row.span
    written = str(row.values["path"])
    file = _inside(root, written, row.where)
    for parent in PurePosixPath(written).parents:
        tar = root / parent
        if parent.suffix.lower() == ".tar" and tar.is_file():
            if tar not in tars:
                tars[tar] = {name: span for name, _, span, text in members(tar) if text is None}
            member = str(PurePosixPath(written).relative_to(parent))
            if member not in tars[tar]:
                raise ManifestError(f"{row.where}: {tar} holds no {member}")
            return tar, member, tars[tar][member]
    return file, None, None


def _inside(root: Path, written: str, where: str) -> Path:
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


def _limited(entries: list[Entry], limit: int | None) -> list[Entry]:
    if limit is None:
        return entries
    taken: dict[tuple[str, str, str | None], int] = {}
    kept = []
    for entry in entries:
        group = (entry.sample.label, entry.sample.paradigm, entry.sample.source)
        taken[group] = taken.get(group, 0) + 1
        if taken[group] <= limit:
            kept.append(entry)
    return kept


def check_labels(entries: Iterable[Entry], path: Path) -> None:
    """Refuses images of one label only.

    Raises:
        ManifestError: no real or no fake image.
    """
    there = {entry.sample.label for entry in entries}
    for label, word in (("real", "photographs"), ("fake", "generated images")):
        if label not in there:
            raise ManifestError(f"{path} has no image labelled {label}: {word} are needed to compare with")


def with_image(sample: Sample, sha256: str) -> Sample:
    """The sample with its stored image."""
    return msgspec.structs.replace(sample, image=sha256)
