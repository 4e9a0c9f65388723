"""Where the images of a dataset are: files, WebDataset tars, Parquet with the files' bytes in a column.

An index is held in a few flat arrays, so that a worker process that was forked shares it instead of copying it object
by object. Files are opened when they are needed, by each process for itself.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mllmrisk import manifest
from mllmrisk.errors import ImageError, ManifestError
from mllmrisk.extras import optional
from mllmrisk.records import Sample
from mllmrisk.tars import members
from mllmrisk.torch.order import Indices

PathLike = str | os.PathLike[str]

#: Labels by the words of a manifest.
LABELS = {"real": 0, "fake": 1, "unknown": -1}


class Images(Protocol):
    """Stored images by index, 0 to n - 1."""

    labels: npt.NDArray[np.int64]
    """(n,); -1 where an image has none."""
    blocks: npt.NDArray[np.int64]
    """(k,) the first image of each run of images that are best read together, ascending from 0."""
    resident: int
    """Of how many blocks the bytes are held at a time, where a block is read as a whole."""

    def name(self, index: int) -> str:
        """How messages call an image."""

    def fetch(self, indices: Indices) -> list[str | bytes | ImageError]:
        """A path or the bytes of each image, or why there are none."""


class Texts:
    """Many texts in one buffer."""

    def __init__(self, texts: Iterable[str]) -> None:
        parts = [os.fsencode(text) for text in texts]
        self._buffer = b"".join(parts)
        self._ends = np.cumsum([len(part) for part in parts], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        start = int(self._ends[index - 1]) if index else 0
        return os.fsdecode(self._buffer[start : int(self._ends[index])])


class Files:
    """Image files and members of tars, at places that are known."""

    resident = 0

    def __init__(
        self,
        paths: Sequence[str],
        labels: Sequence[int],
        members: Sequence[str] | None = None,
        spans: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        """Takes what is known.

        Args:
            paths: of each image its file, or the tar that holds it.
            labels: of each image.
            members: of each image its name in the tar; empty for a file of its own.
            spans: of each image (offset, size) in the tar.
        """
        if not len(paths) == len(labels):
            raise ManifestError(f"{len(labels)} labels for {len(paths)} images")
        if not paths:
            raise ManifestError("no image")
        number: dict[str, int] = {}
        self._of = np.array([number.setdefault(path, len(number)) for path in paths], np.int64)
        self._paths = Texts(number)
        self._members = None if members is None else Texts(members)
        self._spans = None if spans is None else np.array(spans, np.int64).reshape(-1, 2)
        self.labels = np.array(labels, np.int64)
        # Files are read one by one; the images of a tar that stand together, together.
        changes = np.flatnonzero(np.diff(self._of)) + 1 if members else np.arange(1, len(paths))
        self.blocks = np.append(0, changes).astype(np.int64)

    def name(self, index: int) -> str:
        """The path of its file, or of its tar and its member."""
        path = self._paths[int(self._of[index])]
        member = "" if self._members is None else self._members[index]
        return f"{path}/{member}" if member else path

    def fetch(self, indices: Indices) -> list[str | bytes | ImageError]:
        """Paths of files, which the core reads, and the bytes of members."""
        return [self._fetch(index) for index in indices.tolist()]

    def _fetch(self, index: int) -> str | bytes | ImageError:
        tar = int(self._of[index])
        if self._members is None or self._spans is None or not self._members[index]:
            return self._paths[tar]
        offset, size = self._spans[index].tolist()
        try:
            with Path(self._paths[tar]).open("rb", buffering=0) as file:
                data = os.pread(file.fileno(), size, offset)
        except OSError as wrong:
            return ImageError(f"{self.name(index)}: {wrong.strerror}", "unreadable")
        return data if len(data) == size else ImageError(f"{self.name(index)}: the tar is cut", "unreadable")


def files(
    source: PathLike | Sequence[PathLike],
    *,
    labels: Sequence[int] | None = None,
    label: Callable[[Sample], int] | None = None,
) -> Images:
    """Images of a folder or a manifest, or the files of a list.

    Args:
        source: a folder (its images and those of its tars), a manifest (CSV, JSONL, Parquet without bytes), or paths.
        labels: for a list, the label of each path; -1 where None.
        label: for a folder or a manifest, gives an image's label; where None, 0 for real, 1 for fake, -1 for unknown,
            by column or by the names of folders (`docs/manifest.md`).

    Raises:
        ManifestError: it cannot be used, or holds no image.
    """
    if not isinstance(source, str | os.PathLike):
        paths = [os.fspath(path) for path in source]
        return Files(paths, [-1] * len(paths) if labels is None else list(labels))
    if labels is not None:
        raise ManifestError("labels go with a list of paths; a folder or a manifest has its own, or `label` gives them")
    entries = manifest.read(Path(source), labelled=False).entries
    given = [LABELS[e.sample.label] if label is None else label(e.sample) for e in entries]
    paths = [str(e.file) for e in entries]
    if all(e.span is None for e in entries):
        return Files(paths, given)
    return Files(paths, given, [e.member or "" for e in entries], [e.span or (0, 0) for e in entries])


def tars(paths: PathLike | Sequence[PathLike], *, label: Callable[[dict[str, str]], int] | None = None) -> Images:
    """Images of WebDataset tars, in their order; the headers are read once, now.

    Args:
        paths: of plain (not compressed) tars.
        label: gives an image's label from the texts of its side members, by suffix (`{"cls": "3", "json": "{...}"}`);
            where None, the number of `.cls`, or `label` of `.json` (a number, `real` or `fake`), or -1.

    Raises:
        ManifestError: a tar cannot be read, or a label is none.
    """
    at: list[str] = []
    names: list[str] = []
    spans: list[tuple[int, int]] = []
    labels: list[int] = []
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        found: list[tuple[str, str, tuple[int, int]]] = []
        texts: dict[str, dict[str, str]] = {}
        for name, key, span, text in members(Path(path)):
            if text is None:
                found.append((name, key, span))
            else:
                texts.setdefault(key, {})[name.rpartition(".")[2].lower()] = text
        for name, key, place in found:
            at.append(os.fspath(path))
            names.append(name)
            spans.append(place)
            labels.append(_label(f"{path}, {name}", texts.get(key, {}), label or _from_sides))
    return Files(at, labels, names, spans)


def _label(where: str, texts: dict[str, str], label: Callable[[dict[str, str]], int]) -> int:
    try:
        return int(label(texts))
    except (ValueError, KeyError, TypeError) as wrong:
        raise ManifestError(f"{where}: no label: {wrong!r}") from wrong


def _from_sides(texts: dict[str, str]) -> int:
    if "cls" in texts:
        return int(texts["cls"])
    if "json" in texts:
        value = json.loads(texts["json"]).get("label", "unknown")
        return LABELS[value] if value in LABELS else int(value)
    return -1


class Parquet:
    """Images in a column of Parquet files; a row group is read as a whole."""

    def __init__(self, paths: Sequence[str], image: str, label: str | None) -> None:
        self._paths = list(paths)
        self._image = image
        self.resident = 2
        self._open: dict[int, Any] = {}
        self._held: OrderedDict[int, Any] = OrderedDict()
        sizes: list[int] = []
        self._groups: list[tuple[int, int]] = []
        labels: list[npt.NDArray[np.int64]] = []
        for number, path in enumerate(self._paths):
            file = self._file(number)
            names = file.schema_arrow.names
            for needed in {image, label} - {None}:
                if needed not in names:
                    raise ManifestError(f"{path}: no column {needed!r}; found: {', '.join(map(repr, names))}")
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                sizes.append(rows)
                self._groups.append((number, group))
                if label is None:
                    labels.append(np.full(rows, -1, np.int64))
                else:
                    column = file.read_row_group(group, columns=[label], use_threads=False).column(label)
                    labels.append(_numbers(column.to_pylist(), f"{path}, column {label!r}"))
        if not sum(sizes):
            raise ManifestError("no image")
        self.labels = np.concatenate(labels)
        self.blocks = np.cumsum([0, *sizes[:-1]], dtype=np.int64)

    def name(self, index: int) -> str:
        """The path of its file, its row group and its row in that."""
        block = self._block(index)
        number, group = self._groups[block]
        return f"{self._paths[number]}, row group {group}, row {index - int(self.blocks[block])}"

    def fetch(self, indices: Indices) -> list[str | bytes | ImageError]:
        """The bytes of each."""
        found: list[str | bytes | ImageError] = [b""] * len(indices)
        # In the order of the blocks, so that each is read once at most, however few are held.
        for at in np.argsort(indices, kind="stable").tolist():
            index = int(indices[at])
            block = self._block(index)
            try:
                value = self._rows(block)[index - int(self.blocks[block])].as_py()
            except (OSError, ValueError) as wrong:  # pyarrow's errors of broken files are ValueErrors or OSErrors
                found[at] = ImageError(f"{self.name(index)}: {wrong}", "unreadable")
                continue
            found[at] = b"" if value is None else value
        return found

    def _block(self, index: int) -> int:
        # The last of those that begin at or before it: an empty block begins where the next one does.
        return int(np.searchsorted(self.blocks, index, side="right")) - 1

    def _rows(self, block: int) -> Any:
        column = self._held.pop(block, None)
        if column is None:
            number, group = self._groups[block]
            table = self._file(number).read_row_group(group, columns=[self._image], use_threads=False)
            column = table.column(self._image)
            if getattr(column.type, "num_fields", 0):  # a struct
                column = optional("pyarrow.compute", "Parquet", "parquet").struct_field(column, "bytes")
        self._held[block] = column  # the last that was used
        while len(self._held) > max(1, self.resident):
            self._held.popitem(last=False)
        return column

    def _file(self, number: int) -> Any:
        if number not in self._open:
            parquet = optional("pyarrow.parquet", "images in Parquet", "parquet")
            path = self._paths[number]
            try:
                self._open[number] = parquet.ParquetFile(path, memory_map=True)
            except (OSError, ValueError) as wrong:
                raise ManifestError(f"{path}: {wrong}") from wrong
        return self._open[number]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}, "_held": OrderedDict()}


def parquet(paths: PathLike | Sequence[PathLike], *, image: str = "image", label: str | None = None) -> Images:
    """Images whose files are stored in a column of Parquet files.

    Args:
        paths: of the files.
        image: the column: bytes, or a struct with a field `bytes` (as Hugging Face's datasets store images).
        label: the column of labels (whole numbers, truth values, `real` or `fake`; -1 for a gap); none where None.

    Raises:
        ManifestError: a file cannot be used; the message says why.
        MissingExtraError: pyarrow is not installed.
    """
    every = [paths] if isinstance(paths, str | os.PathLike) else paths
    return Parquet([os.fspath(path) for path in every], image, label)


def _numbers(values: Sequence[Any], where: str) -> npt.NDArray[np.int64]:
    def number(value: Any) -> int:
        return -1 if value is None else LABELS[value] if value in LABELS else int(value)

    try:
        return np.array([number(value) for value in values], np.int64)
    except (ValueError, TypeError) as wrong:
        raise ManifestError(f"{where}: a label is a whole number, real or fake: {wrong}") from wrong
