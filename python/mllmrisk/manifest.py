"""Given images: a manifest (CSV, JSONL, Parquet), a folder in the conventions that people have, or WebDataset tars.

Each becomes a list of :class:`Entry`, checked as a whole before any image is read (DESIGN 5.2).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import msgspec

from mllmrisk.errors import ManifestError
from mllmrisk.records import PARADIGMS, Sample
from mllmrisk.registry import did_you_mean
from mllmrisk.rows import FOLDERS, Row, file_rows, folder_rows, inside
from mllmrisk.tars import SUFFIXES, Span, members

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


def read(path: Path, limit: int | None = None, *, labelled: bool = True, both: bool = True) -> Manifest:
    """Reads a manifest, a folder or a tar.

    Args:
        path: a `.csv`, `.jsonl`, `.parquet` file, a folder of images, a `.tar`, or a folder of tars.
        limit: at most so many images of each (label, paradigm, source), the first ones.
        labelled: whether each image needs a label; without, a missing label is `unknown`.
        both: whether both labels must be there, where images need one.

    Raises:
        ManifestError: it cannot be used; the message names the row and what is wrong.
    """
    if path.is_dir():
        rows = list(folder_rows(path))
        if not rows:
            raise ManifestError(f"{path} holds no image (looked for {', '.join(sorted(SUFFIXES))} and .tar)")
        root = path
    elif path.is_file():
        rows = list(file_rows(path, labelled=labelled))
        root = path.parent
    else:
        raise ManifestError(f"no such manifest or folder: {path}")
    entries, notes = _entries(rows, root, path, labelled=labelled)
    entries = _limited(entries, limit)
    if labelled and both:
        check_labels(entries, path)
    text = "\n".join(f"{e.sample.id} {e.sample.label} {e.sha256}" for e in entries)
    return Manifest(entries, hashlib.sha256(text.encode()).hexdigest()[:16], notes)


def _entries(rows: Iterable[Row], root: Path, path: Path, *, labelled: bool) -> tuple[list[Entry], list[str]]:
    seen_path: dict[str, str] = {}
    seen_hash: dict[str, tuple[str, str]] = {}
    entries: list[Entry] = []
    duplicates = 0
    tars: dict[Path, dict[str, Span]] = {}
    for row in rows:
        entry = _entry(row, root, tars, labelled=labelled)
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


def _entry(row: Row, root: Path, tars: dict[Path, dict[str, Span]], *, labelled: bool) -> Entry:
    values = row.values
    _check_text(values, row.where)
    if "path" not in values:
        raise ManifestError(f"{row.where}: no path")
    if "label" not in values and labelled:
        folders = ", ".join(name for name in FOLDERS if not name.isdigit())
        raise ManifestError(
            f"{row.where}: no label (real or fake); a manifest has a column for it, a folder tells it by names "
            f"such as {folders}, a tar also by .cls or .json members"
        )
    label = str(values.get("label", "unknown")).strip().lower()
    label = {"0": "real", "1": "fake"}.get(label, label)
    if label not in {"real", "fake"} and ("label" in values or labelled):
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


def _place(row: Row, root: Path, tars: dict[Path, dict[str, Span]]) -> tuple[Path, str | None, Span | None]:
    """(file, member, span) of a row: a file, or `shard.tar/member`."""
    if row.file is not None:
        return row.file, row.member, row.span
    written = str(row.values["path"])
    file = inside(root, written, row.where)
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
