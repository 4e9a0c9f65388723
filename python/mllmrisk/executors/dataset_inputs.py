"""What the paths of a call mean: image files, tars and tables, on this machine or behind any URL that fsspec knows.

A name may be a file, a folder (all images and tars below it), a pattern (`photos/**/*.jpg`), a row of shards
(`shard-{0000..0010}.tar`), a manifest (`.csv`, `.jsonl`: its column `path`), a list (`.txt`: a name a line) or a
`.parquet` with images or their paths. Nothing is opened here but folders, lists, manifests and the footers of Parquet.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from mllmrisk.errors import UsageError
from mllmrisk.extras import optional
from mllmrisk.rows import file_rows
from mllmrisk.tars import SUFFIXES, Span

#: Suffixes of names that are not images themselves.
_MANIFESTS = frozenset({".csv", ".jsonl", ".ndjson"})

#: Columns of a Parquet file that hold the bytes of images (or, as data sets are published, `{bytes, path}`), and
#: those that hold paths, by preference.
_IMAGES = ("image", "bytes", "image_bytes", "jpg", "jpeg", "png", "webp", "img", "content")
_PATHS = ("path", "image_path", "file_name", "url")

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(?:::|://)")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


class File(NamedTuple):
    """One image: how its row names it, where it is (path or URL), its place in a tar, and what is known of it."""

    name: str
    place: str
    span: Span | None = None
    facts: Mapping[str, str] = {}


class Tar(NamedTuple):
    """A WebDataset shard: its images become rows `name/member`."""

    name: str
    place: str


class Table(NamedTuple):
    """Row groups `first` to `last` (exclusive) of a Parquet file.

    Attributes:
        column: the one with the images.
        stored: whether it holds the images' bytes; their paths otherwise, relative to the file's folder.
        named: the column that names rows, if there is one; without, they are `name/ROW`.
        row: the number of the first row.
        rows: how many there are.
    """

    name: str
    place: str
    column: str
    stored: bool
    named: str | None
    first: int
    last: int
    row: int
    rows: int


class Files(NamedTuple):
    """Images that are worked on together."""

    files: tuple[File, ...]


Part: TypeAlias = Files | Tar | Table
"""A piece of work: what one task reads and one output file holds, in the order of the inputs."""


def digest(part: Part) -> str:
    """16 hex digits that stand for a part: equal inputs have equal ones on every machine."""
    return hashlib.sha256(repr(part).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def size(part: Part) -> int | None:
    """How many images a part has; None where only reading it will tell."""
    if isinstance(part, Files):
        return len(part.files)
    return part.rows if isinstance(part, Table) else None


def expand(arguments: Iterable[str], rows: int = 2048) -> Iterator[File | Tar | Table]:
    """Everything that the names mean, in their order; folders are read in the order of names, one at a time.

    Args:
        arguments: the names.
        rows: how many rows a piece of a Parquet file should have at most; a row group is not cut.

    Raises:
        UsageError: a name that stands for nothing, or a manifest that cannot be used.
        MissingExtraError: a URL without fsspec, or Parquet without pyarrow.
    """
    for argument in arguments:
        for name in _braces(argument):
            yield from _meant(name, rows)


def parts(found: Iterable[File | Tar | Table], rows: int) -> Iterator[Part]:
    """Pieces of work: up to `rows` files together, each tar and each piece of a table by itself."""
    group: list[File] = []
    for one in found:
        if isinstance(one, File):
            group.append(one)
            if len(group) == rows:
                yield Files(tuple(group))
                group = []
            continue
        if group:
            yield Files(tuple(group))
            group = []
        yield one
    if group:
        yield Files(tuple(group))


def is_url(name: str) -> bool:
    """Whether a name is a URL for fsspec rather than a path; `file://` counts as a path."""
    return _URL.match(name) is not None and not name.startswith("file://")


def local(name: str) -> str:
    """The path behind `file://`; other names as they are."""
    return name.removeprefix("file://") or "/"


def filesystem(place: str) -> tuple[Any, str]:
    """(fsspec file system, path in it) of a URL or a path.

    Raises:
        MissingExtraError: fsspec is not installed.
        UsageError: no such protocol, or the package that speaks it is not installed.
    """
    fsspec = optional("fsspec", f"reading {place.split('://')[0]}://", "ray")
    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(place)
    except (ValueError, ImportError) as wrong:
        raise UsageError(f"{place}: {wrong}") from wrong
    return found


def _braces(argument: str) -> list[str]:
    """`a-{000..010}.tar` and `{a,b}.jpg` as the names they stand for; a name that exists is never taken apart."""
    found = _BRACES.search(argument)
    if found is None or os.path.lexists(argument):
        return [argument]
    inner = found[1]
    if (between := _RANGE.fullmatch(inner)) is not None:
        width = len(between[1]) if between[1].startswith("0") or len(between[1]) == len(between[2]) else 0
        choices = [f"{number:0{width}}" for number in range(int(between[1]), int(between[2]) + 1)]
        if not choices:
            raise UsageError(f"{argument}: the range {{{inner}}} is empty")
    elif "," in inner:
        choices = inner.split(",")
    else:
        return [argument]
    head, tail = argument[: found.start()], argument[found.end() :]
    return [name for choice in choices for name in _braces(f"{head}{choice}{tail}")]


def _meant(name: str, rows: int) -> Iterator[File | Tar | Table]:
    if is_url(name):
        yield from _remote(name, rows)
        return
    name = local(name)
    path = Path(name)
    if not os.path.lexists(path):
        if not glob.has_magic(name):
            raise UsageError(f"no such file or folder: {name}")
        matching = _matching(name)
        if not matching:
            raise UsageError(f"the pattern {name} matches no file")
        for one in matching:
            yield from _one(str(one), str(one), rows)
    elif path.is_dir():
        for one in _below(path):
            yield Tar(str(one), str(one)) if one.suffix.lower() == ".tar" else File(str(one), str(one))
    else:
        yield from _one(name, name, rows)


def _one(name: str, place: str, rows: int) -> Iterator[File | Tar | Table]:
    """What a name of one file stands for, by its suffix; anything unknown is taken for an image."""
    suffix = os.path.splitext(place)[1].lower()  # noqa: PTH122  # a URL is no Path
    if suffix == ".tar":
        yield Tar(name, place)
    elif suffix == ".parquet":
        yield from _tables(name, place, rows)
    elif suffix in _MANIFESTS and not is_url(place):
        for row in file_rows(Path(place), labelled=False):
            if "path" not in row.values:
                raise UsageError(f"{row.where}: no path")
            written = str(row.values["path"])
            yield File(written, beside(place, written))
    elif suffix == ".txt":
        for line in _lines(place):
            yield from _one(line, beside(place, line), rows)
    else:
        yield File(name, place)


def beside(place: str, written: str) -> str:
    """A name in a list or manifest, as a place: relative ones start in its folder."""
    if is_url(written) or written.startswith("/"):
        return written
    if written.startswith("file://"):
        return local(written)
    folder, slash, _ = place.rpartition("/")
    return f"{folder}{slash}{written}"


def _lines(place: str) -> Iterator[str]:
    if is_url(place):
        system, path = filesystem(place)
        opened = system.open(path, "r", encoding="utf-8")
    else:
        opened = Path(place).open(encoding="utf-8", errors="surrogateescape")  # noqa: SIM115  # closed below
    with opened as file:
        for line in file:
            if stripped := line.strip():
                yield stripped


def _remote(url: str, rows: int) -> Iterator[File | Tar | Table]:
    system, path = filesystem(url)
    try:
        if glob.has_magic(path):
            found = sorted(system.glob(path))
            if not found:
                raise UsageError(f"the pattern {url} matches no file")
            for one in found:
                whole = local(system.unstrip_protocol(one))
                yield from _one(whole, whole, rows)
        elif system.isfile(path):
            yield from _one(url, url, rows)
        else:
            found = sorted(system.find(path))
            if not found:
                raise UsageError(f"no such file or folder: {url}")
            for one in found:
                whole = local(system.unstrip_protocol(one))
                suffix = os.path.splitext(one)[1].lower()  # noqa: PTH122  # a key of an object store is no Path
                if suffix == ".tar":
                    yield Tar(whole, whole)
                elif suffix in SUFFIXES:
                    yield File(whole, whole)
    except (OSError, ImportError) as wrong:
        raise UsageError(f"{url}: {wrong}") from wrong


def _tables(name: str, place: str, rows: int) -> Iterator[Table]:
    """A Parquet file as pieces of whole row groups."""
    parquet = optional("pyarrow.parquet", "Parquet", "parquet")
    pyarrow = optional("pyarrow", "Parquet", "parquet")
    try:
        with opened(place) as file, parquet.ParquetFile(file) as table:
            schema = table.schema_arrow
            sizes = [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]
    except (OSError, pyarrow.ArrowException) as wrong:
        raise UsageError(f"{place}: {wrong}") from wrong
    column, stored = _image_column(schema, place, pyarrow)
    named = next((path for path in _PATHS if stored and path in schema.names), None)
    first, row = 0, 0
    for group in range(len(sizes)):
        here = sum(sizes[first : group + 1])
        if here >= rows or group == len(sizes) - 1 or here + sizes[group + 1] > rows:
            yield Table(name, place, column, stored, named, first, group + 1, row, here)
            first, row = group + 1, row + here


def _image_column(schema: Any, place: str, pyarrow: Any) -> tuple[str, bool]:
    """(column, whether it holds bytes): bytes first, since a path beside them is their name."""
    types = pyarrow.types
    for column in _IMAGES:
        if column in schema.names:
            kind = schema.field(column).type
            nested = types.is_struct(kind) and kind.get_field_index("bytes") >= 0
            if nested or types.is_binary(kind) or types.is_large_binary(kind):
                return column, True
    for column in _PATHS:
        if column in schema.names:
            return column, False
    raise UsageError(
        f"{place}: no column of images ({', '.join(_IMAGES)}) and none of paths ({', '.join(_PATHS)}). "
        f"Found: {', '.join(schema.names) or 'nothing'}"
    )


def opened(place: str) -> Any:
    """A file for reading, on this machine or behind a URL."""
    if not is_url(place):
        return Path(place).open("rb")
    system, path = filesystem(place)
    return system.open(path, "rb", block_size=8 << 20)


def _matching(pattern: str) -> list[Path]:
    """The files that a pattern matches, sorted; `**` does not follow links to folders, so that a loop of links ends."""
    anchor = Path(Path(pattern).anchor)
    try:
        return sorted(path for path in anchor.glob(str(Path(pattern).relative_to(anchor))) if not path.is_dir())
    except ValueError as wrong:
        raise UsageError(f"{pattern}: {wrong}") from wrong


def _below(folder: Path) -> Iterator[Path]:
    """Images and tars below a folder; links to folders are not followed, so that a loop of links ends."""
    open_folders = [_inside(folder)]
    while open_folders:
        path = next(open_folders[-1], None)
        if path is None:
            open_folders.pop()
        elif path.is_dir() and not path.is_symlink():
            if os.access(path, os.R_OK | os.X_OK):
                open_folders.append(_inside(path))
            else:
                yield path  # reading it fails, and its row says so
        elif path.suffix.lower() in SUFFIXES | {".tar"} and not path.is_dir():
            yield path


def _inside(folder: Path) -> Iterator[Path]:
    """What a folder holds, sorted by name; names are held alone, since a path takes five times as much memory."""
    return (folder / name for name in sorted(os.listdir(folder)))  # noqa: PTH208 (names, not paths)


def count(arguments: Sequence[str]) -> int | None:
    """How many images the names mean; None where only reading will tell (tars), or listing would cost (URLs).

    Raises:
        UsageError, MissingExtraError: as :func:`expand`.
    """
    if any(is_url(argument) for argument in arguments):
        return None
    total = 0
    unknown = False
    for one in expand(arguments):
        if isinstance(one, Tar):
            unknown = True
        else:
            total += one.rows if isinstance(one, Table) else 1
    return None if unknown else total


def first_parts(found: Iterator[File | Tar | Table], workers: int) -> tuple[int, Iterator[File | Tar | Table]]:
    """Rows per part so that all workers have a few, and the inputs again.

    Few inputs make small parts; many make parts of 2,048 images, of which each costs seconds.
    """
    most, least, known = 2048, 32, 1 << 20  # `known`: as many as are looked at before the first is worked on
    head = list(itertools.islice(found, min(known, most * 4 * workers)))
    each = len(head) / (4 * workers)
    rows = min(most, max(least, math.ceil(each / least) * least))
    return rows, itertools.chain(head, found)
