"""Tables of features, written block by block so that any number of images needs the memory of one block.

Each writer is a context manager whose target appears, whole, when it ends without an error.
"""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mllmrisk.cli.output import check_free, replacing
from mllmrisk.executors.dataset_tables import Block, Groups, feature_schema, parquet_options
from mllmrisk.extras import optional
from mllmrisk.manifest import printable


class Writer(Protocol):
    """What takes blocks."""

    def write(self, block: Block) -> None:
        """Appends the rows."""
        ...


def targets(path: Path) -> list[Path]:
    """Every file that an output of this name makes."""
    if path.suffix.lower() != ".npy":
        return [path]
    return [path, *(path.with_suffix(f".{part}") for part in ("names.txt", "paths.txt", "errors.csv"))]


def check_targets(path: Path, force: bool) -> None:
    """Refuses an output that could not be written, before any work is done.

    Raises:
        UsageError: one of its files exists (without `force`), or cannot be made.
        MissingExtraError: Parquet without pyarrow.
    """
    for target in targets(path):
        check_free(target, force)
    if path.suffix.lower() == ".parquet":
        _parquet()


@contextlib.contextmanager
def opened(path: Path, names: Sequence[str]) -> Iterator[Writer]:
    """The writer for a suffix; the columns are `path`, one per name, `error`, `error_message`."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(replacing(target)) for target in reversed(targets(path))][::-1]
        writer: _Csv | _Parquet | _Npy
        if path.suffix.lower() == ".csv":
            writer = _Csv(files[0], names)
        elif path.suffix.lower() == ".parquet":
            writer = _Parquet(files[0], names)
        else:
            writer = _Npy(files, names)
        with contextlib.closing(writer):
            yield writer


class _Csv:
    """Nine digits give a float32 back exactly; a row without values has empty cells."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(["path", *names, "error", "error_message"])
        self._empty = [""] * len(names)

    def write(self, block: Block) -> None:
        for row, path in enumerate(block.paths):
            reason = block.reasons.get(row)
            if reason is None:
                self._writer.writerow([printable(path), *(f"{value:.9g}" for value in block.values[row]), "", ""])
            else:
                self._writer.writerow([printable(path), *self._empty, reason.code, printable(reason.message)])

    def close(self) -> None:
        self._file.close()


class _Parquet:
    """Row groups of thousands of rows; a row without values has nulls."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._schema = feature_schema(names)
        self._file = _parquet().ParquetWriter(path, self._schema, **parquet_options())
        self._groups = Groups(self._schema)

    def write(self, block: Block) -> None:
        self._write(self._groups.add(block))

    def _write(self, tables: Iterable[Any]) -> None:
        for table in tables:
            self._file.write_table(table, row_group_size=table.num_rows)

    def close(self) -> None:
        self._write(self._groups.rest())
        self._file.close()


class _Npy:
    """A float32 matrix, NaN in rows without values; names, paths and errors in files beside it."""

    def __init__(self, paths: Sequence[Path], names: Sequence[str]) -> None:
        matrix, names_file, paths_file, errors_file = paths
        names_file.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        self._matrix = matrix.open("wb")
        self._shape = (0, len(names))
        self._header()
        self._paths = paths_file.open("w", encoding="utf-8", newline="")
        self._errors = errors_file.open("w", encoding="utf-8", newline="")
        self._reasons = csv.writer(self._errors, lineterminator="\n")
        self._reasons.writerow(["row", "path", "error", "error_message"])

    def write(self, block: Block) -> None:
        values = block.values.astype("<f4")
        for row, path in enumerate(block.paths):
            self._paths.write(_one_line(path) + "\n")
            if (reason := block.reasons.get(row)) is not None:
                values[row] = np.nan
                self._reasons.writerow([self._shape[0] + row, printable(path), reason.code, printable(reason.message)])
        self._matrix.write(values.tobytes())
        self._shape = (self._shape[0] + len(block.paths), self._shape[1])

    def _header(self) -> None:
        """NumPy pads its header for the growth of the first axis, so that the last one fits where the first stood."""
        header = {"descr": "<f4", "fortran_order": False, "shape": self._shape}
        np.lib.format.write_array_header_1_0(self._matrix, header)

    def close(self) -> None:
        begin = self._matrix.tell() - 4 * self._shape[0] * self._shape[1]
        self._matrix.seek(0)
        self._header()
        if self._matrix.tell() != begin:
            raise RuntimeError("the header of the .npy file grew over its data")
        for file in (self._matrix, self._paths, self._errors):
            file.close()


def _one_line(path: str) -> str:
    return printable(path).replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def _parquet() -> Any:
    return optional("pyarrow.parquet", "Parquet", "parquet")
