"""Parts as images: files, members of tars and rows of Parquet, in batches that are read while others are worked on.

What cannot be read is an item with its reason, never an exception: one bad file, member or row costs its own row.
"""

from __future__ import annotations

import contextlib
import glob
import json
import queue
import tarfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from mllmrisk.executors import dataset_inputs as inputs
from mllmrisk.executors.dataset_inputs import File, Files, Part, Table, Tar
from mllmrisk.extras import optional
from mllmrisk.images import Limits
from mllmrisk.rows import from_folders
from mllmrisk.tars import SUFFIXES

#: Images per batch, and bytes after which a batch ends earlier.
BATCH = 256
_BATCH_BYTES = 64 << 20

#: Objects of a remote store that are asked for at once.
_TOGETHER = 32
_ATTEMPTS = 4

#: A side file of a tar (`key.json`, `key.cls`) larger than this is no caption.
_SIDE_BYTES = 1 << 20


class Reason(NamedTuple):
    """Why an image gave nothing: one word, and a sentence."""

    code: str
    message: str


class Item(NamedTuple):
    """One image to work on.

    Attributes:
        name: as its row names it.
        data: a path of this machine, or the file's bytes (none where there is a reason).
        reason: why it could not be read.
        facts: columns of a manifest, a tar's side files or a table: `label`, `paradigm`, `generator`.
    """

    name: str
    data: str | bytes
    reason: Reason | None = None
    facts: Mapping[str, str] = {}


def batches(parts: Iterable[Part], *, facts: bool = False) -> Iterator[list[Item]]:
    """The images of parts, up to 256 at a time; the next batch is read while the caller works on this one.

    Args:
        parts: in their order.
        facts: whether side files and columns are read for what they say of images.
    """
    return _ahead(_grouped(item for part in parts for item in _items(part, facts)))


def _grouped(items: Iterable[Item]) -> Iterator[list[Item]]:
    group: list[Item] = []
    held = 0
    for item in items:
        group.append(item)
        held += len(item.data) if isinstance(item.data, bytes) else 0
        if len(group) == BATCH or held >= _BATCH_BYTES:
            yield group
            group, held = [], 0
    if group:
        yield group


def _ahead(groups: Iterator[list[Item]]) -> Iterator[list[Item]]:
    """One batch ahead, by a thread that ends with the iteration, whole or not."""
    ready: queue.Queue[list[Item] | BaseException | None] = queue.Queue(maxsize=1)
    stopped = threading.Event()

    def put(thing: list[Item] | BaseException | None) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(thing, timeout=0.1)
                return

    def fill() -> None:
        try:
            for group in groups:
                put(group)
                if stopped.is_set():
                    return
            put(None)
        except BaseException as wrong:  # it is raised again in the thread that iterates
            put(wrong)

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    try:
        while (found := ready.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        stopped.set()
        thread.join()


def _items(part: Part, facts: bool) -> Iterator[Item]:
    if isinstance(part, Files):
        yield from _files(part)
    elif isinstance(part, Tar):
        yield from _tar(part, facts)
    else:
        yield from _table(part, facts)


def _files(part: Files) -> Iterator[Item]:
    for start in range(0, len(part.files), _TOGETHER):
        group = part.files[start : start + _TOGETHER]
        fetched = _fetched([file.place for file in group if inputs.is_url(file.place)])
        for file in group:
            if file.place in fetched:
                yield _item(file.name, fetched[file.place], dict(file.facts))
            elif file.span is not None:
                yield _item(file.name, _attempt(lambda file=file: _span(file)), dict(file.facts))  # type: ignore[misc]
            else:
                yield Item(file.name, file.place, None, dict(file.facts))


def _item(name: str, data: bytes | Exception, facts: dict[str, str]) -> Item:
    if isinstance(data, bytes):
        return Item(name, data, None, facts)
    return Item(name, b"", Reason("unreadable", f"{name}: {_sentence(data)}"), facts)


def _sentence(wrong: Exception) -> str:
    return (str(wrong).strip().splitlines() or [type(wrong).__name__])[0][:300]


def _span(file: File) -> bytes:
    if file.span is None:
        raise ValueError(f"{file.name} is a whole file")
    with inputs.opened(file.place) as tar:
        tar.seek(file.span.offset)
        data: bytes = tar.read(file.span.size)
    if len(data) != file.span.size:
        raise OSError(f"{file.place} is cut")
    return data


def _fetched(urls: list[str]) -> dict[str, bytes | Exception]:
    """The bytes behind URLs, asked for together where the store can; what fails on and on is its error."""
    found: dict[str, bytes | Exception] = {}
    waiting = list(dict.fromkeys(urls))
    for attempt in range(_ATTEMPTS):
        for url in waiting:
            found.pop(url, None)
        by_system: dict[int, tuple[Any, dict[str, str]]] = {}
        for url in waiting:
            try:
                system, path = inputs.filesystem(url)
            except Exception as wrong:  # of any package behind fsspec
                found[url] = wrong
                continue
            by_system.setdefault(id(system), (system, {}))[1][path] = url
        for system, names in by_system.values():
            found |= _together(system, names)
        waiting = [url for url in waiting if _passing(found[url])]
        if not waiting:
            break
        time.sleep(0.2 * 4**attempt)
    return found


def _together(system: Any, names: dict[str, str]) -> dict[str, bytes | Exception]:
    """What is behind several paths of one file system, by the names' URLs."""
    plain = [path for path in names if not glob.has_magic(path)]  # `cat` would take others for patterns
    try:
        answer = system.cat(plain, on_error="return") if plain else {}
    except Exception as wrong:  # of any package behind fsspec
        answer = dict.fromkeys(plain, wrong)
    for path in names:
        if path not in answer:
            try:
                answer[path] = system.cat_file(path)
            except Exception as wrong:  # as above
                answer[path] = wrong
    return {url: answer[path] for path, url in names.items()}


def _attempt(read: Callable[[], bytes]) -> bytes | Exception:
    """What reading gives, tried again where the fault may pass (a store that is busy, a line that breaks)."""
    last: Exception = OSError("not read")
    for attempt in range(_ATTEMPTS):
        try:
            return read()
        except Exception as wrong:  # of any package behind fsspec
            last = wrong
            if not _passing(wrong):
                break
            time.sleep(0.2 * 4**attempt)
    return last


def _passing(found: bytes | Exception) -> bool:
    """Whether a failure may be gone in a second."""
    lasting = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ValueError, ImportError)
    return isinstance(found, Exception) and not isinstance(found, lasting)


class _Tail:
    """A file that remembers its last 1,024 bytes: a whole tar ends in so many zeros."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._tail = b""

    def read(self, size: int) -> bytes:
        data: bytes = self._file.read(size)
        self._tail = (self._tail + data)[-1024:]
        return data

    def cut(self) -> bool:
        while self.read(1 << 16):
            pass
        return bool(self._tail.strip(b"\0")) or not self._tail


def _tar(part: Tar, facts: bool) -> Iterator[Item]:
    """Images of a shard, read once from front to end; members of one key stand together, as WebDataset writes them."""
    if inputs.is_url(part.place):
        optional("fsspec", "URLs", "ray")
    try:
        with inputs.opened(part.place) as file:
            tail = _Tail(file)
            with tarfile.open(fileobj=tail, mode="r|", bufsize=1 << 20) as tar:  # type: ignore[call-overload]
                yield from _members(part, tar, facts)
            if tail.cut():
                yield Item(part.name, b"", Reason("truncated", f"{part.name}: the tar is cut; images may be missing"))
    except Exception as wrong:  # of tarfile, the system, or any package behind fsspec
        code = "corrupt" if isinstance(wrong, tarfile.TarError) else "unreadable"
        yield Item(part.name, b"", Reason(code, f"{part.name}: {_sentence(wrong)}"))


def _members(part: Tar, tar: tarfile.TarFile, facts: bool) -> Iterator[Item]:
    key = ""
    waiting: list[Item] = []
    known: dict[str, str] = {}
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # else the headers of all members stay in memory
        path = PurePosixPath(member.name)
        suffix = path.suffix.lower()
        if not member.isreg() or suffix not in SUFFIXES | {".json", ".cls"}:
            continue
        if (own := str(path.with_name(path.name.split(".", 1)[0]))) != key:
            yield from (item._replace(facts={**item.facts, **known}) for item in waiting)
            key, waiting, known = own, [], {}
        if suffix in SUFFIXES:
            waiting.append(_member(part, tar, member, from_folders(path.parent.parts) if facts else {}))
        elif facts and member.size <= _SIDE_BYTES and (handle := tar.extractfile(member)) is not None:
            known |= _side(suffix, handle.read())
    yield from (item._replace(facts={**item.facts, **known}) for item in waiting)


def _member(part: Tar, tar: tarfile.TarFile, member: tarfile.TarInfo, facts: dict[str, str]) -> Item:
    name = f"{part.name}/{member.name}"
    if member.issparse():
        return Item(name, b"", Reason("unsupported", f"{name}: a sparse member"), facts)
    if member.size > Limits().bytes:
        return Item(name, b"", Reason("limit", f"{name}: {member.size} bytes"), facts)
    handle = tar.extractfile(member)
    return Item(name, handle.read() if handle is not None else b"", None, facts)


def _side(suffix: str, data: bytes) -> dict[str, str]:
    """The columns of a side file; one that says nothing readable says nothing."""
    text = data.decode("utf-8", "replace").strip()
    if suffix == ".cls":
        return {"label": {"0": "real", "1": "fake"}[text]} if text in ("0", "1") else {}
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(text)
        if isinstance(value, dict):
            return {str(name): str(item) for name, item in value.items() if item not in (None, "")}
    return {}


def _table(part: Table, facts: bool) -> Iterator[Item]:
    """Rows of a table; a row group that cannot be read costs its own rows."""
    parquet = optional("pyarrow.parquet", "Parquet", "parquet")
    done = 0
    try:
        with inputs.opened(part.place) as file, parquet.ParquetFile(file) as table:
            wanted = [part.column, part.named, *(("label", "paradigm", "generator") if facts else ())]
            columns = list(dict.fromkeys(name for name in wanted if name in table.schema_arrow.names))
            for group in range(part.first, part.last):
                end = done + table.metadata.row_group(group).num_rows
                try:
                    for records in table.iter_batches(_TOGETHER, row_groups=[group], columns=columns):
                        rows = records.to_pylist()
                        yield from _rows(part, rows, done)
                        done += len(rows)
                except Exception as wrong:  # pyarrow's errors share no base class with those behind fsspec
                    yield from _lost(part, done, end, wrong)
                done = end
    except Exception as wrong:  # as above; the file itself
        yield from _lost(part, done, part.rows, wrong)


def _lost(part: Table, first: int, last: int, wrong: Exception) -> Iterator[Item]:
    for row in range(first, last):
        name = f"{part.name}/{part.row + row}"
        yield Item(name, b"", Reason("unreadable", f"{name}: {_sentence(wrong)}"))


def _rows(part: Table, rows: list[dict[str, Any]], done: int) -> Iterator[Item]:
    known = [
        {key: str(row[key]) for key in row if key not in (part.column, part.named) and row[key] not in (None, "")}
        for row in rows
    ]
    if not part.stored:
        files = []
        for index, row in enumerate(rows):
            name = str(row[part.column]) if row[part.column] is not None else f"{part.name}/{part.row + done + index}"
            place = inputs.beside(part.place, name) if row[part.column] is not None else ""
            files.append(File(name, place, None, known[index]))
        yield from _files(Files(tuple(files)))
        return
    for index, row in enumerate(rows):
        value = row[part.column]
        inner = value.get("path") if isinstance(value, dict) else None
        name = str((part.named and row[part.named]) or inner or f"{part.name}/{part.row + done + index}")
        data = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(data, bytes):
            yield Item(name, data, None, known[index])
        else:
            yield Item(name, b"", Reason("empty", f"{name}: the row holds no image"), known[index])
