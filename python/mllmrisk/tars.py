"""Tars of images (WebDataset shards): which members they hold and where, so that each is read without a scan."""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mllmrisk.errors import ManifestError

#: Suffixes that mark a file of a folder as an image; what the bytes hold is decided by the decoder.
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"})

#: A side file of a tar (`key.json`, `key.cls`) larger than this is no caption.
_SIDE_BYTES = 1 << 20


class Span(NamedTuple):
    """Where a member's bytes are in its tar, so that reading one does not scan the others."""

    offset: int
    size: int


def members(path: Path) -> Iterator[tuple[str, str, Span, str | None]]:
    """(name, key, place, text) of each image and side file of a tar; the text of an image is None."""
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                suffix = name.suffix.lower()
                if not member.isreg() or suffix not in SUFFIXES | {".json", ".cls"}:
                    continue
                if member.issparse():
                    raise ManifestError(f"{path}: {member.name} is a sparse file, which is not read")
                text = None
                if suffix not in SUFFIXES:
                    handle = tar.extractfile(member)
                    text = handle.read(_SIDE_BYTES).decode("utf-8", "replace") if handle else ""
                key = str(name.with_name(name.name.split(".", 1)[0]))
                yield member.name, key, Span(member.offset_data, member.size), text
        _check_end(path)
    except (tarfile.TarError, EOFError, OSError) as wrong:
        why = "it is compressed; unpack it to a plain .tar" if _compressed(path) else wrong
        raise ManifestError(f"{path}: {why}") from wrong


def _compressed(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(2) in {b"\x1f\x8b", b"BZ", b"\xfd7", b"\x28\xb5"}  # gzip, bzip2, xz, zstd
    return False


def _check_end(path: Path) -> None:
    """A tar ends in two blocks of zeros; without them it was cut between two members, and images are missing."""
    with path.open("rb") as tar:
        tar.seek(max(0, path.stat().st_size - 1024))
        if tar.read().strip(b"\0"):
            raise ManifestError(f"{path}: the tar is cut (its end mark is missing)")
