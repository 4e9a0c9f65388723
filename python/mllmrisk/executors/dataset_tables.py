"""Blocks of rows as Arrow tables: one row per image, the same columns whichever executor made them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mllmrisk.executors.dataset_reading import Reason
from mllmrisk.extras import optional
from mllmrisk.manifest import printable

#: Rows of a Parquet row group. A group is held until it is whole (30 MiB of the default set), and 1.8 MiB for the
#: footer of each group until the file is: both are equal at 140,000 rows.
GROUP_ROWS = 8192


class Block(NamedTuple):
    """Some images in their order: paths, values (n, d) float32, and the reasons of rows without values."""

    paths: Sequence[str]
    values: NDArray[np.float32]
    reasons: Mapping[int, Reason]


def feature_schema(names: Sequence[str]) -> Any:
    """`path`, a float32 column per feature, `error`, `error_message`."""
    pyarrow = optional("pyarrow", "Parquet", "parquet")
    text = pyarrow.string()
    values = [(name, pyarrow.float32()) for name in names]
    return pyarrow.schema([("path", text), *values, ("error", text), ("error_message", text)])


class Groups:
    """Rows gathered into tables of thousands of rows, each a row group.

    Values are kept a row per column, so that Arrow reads a column where it stands: a table is to be written before
    the next one is made.
    """

    def __init__(self, schema: Any) -> None:
        """Takes the schema of :func:`feature_schema`."""
        self._schema = schema
        self._values = np.empty((len(schema.names) - 3, GROUP_ROWS), np.float32)
        self._paths: list[str] = []
        self._reasons: list[Reason | None] = []

    def add(self, block: Block) -> Iterator[Any]:
        """Takes rows; a table for each group that they make whole."""
        start = 0
        while start < len(block.paths):
            filled = len(self._paths)
            end = min(len(block.paths), start + GROUP_ROWS - filled)
            self._values[:, filled : filled + end - start] = block.values[start:end].T
            self._paths += block.paths[start:end]
            self._reasons += [block.reasons.get(row) for row in range(start, end)]
            start = end
            if len(self._paths) == GROUP_ROWS:
                yield from self.rest()

    def rest(self) -> Iterator[Any]:
        """A table of the rows that are left, if there are any."""
        if self._paths:
            yield _table(self._paths, self._values[:, : len(self._paths)], self._reasons, self._schema)
        self._paths, self._reasons = [], []


def feature_tables(blocks: Iterable[Block], schema: Any) -> Iterator[Any]:
    """The rows of blocks as the tables of :class:`Groups`."""
    groups = Groups(schema)
    for block in blocks:
        yield from groups.add(block)
    yield from groups.rest()


def _table(paths: Sequence[str], columns: NDArray[np.float32], reasons: Sequence[Reason | None], schema: Any) -> Any:
    """A row without values has nulls; `columns` is (d, n)."""
    pyarrow = optional("pyarrow", "Parquet", "parquet")
    text = pyarrow.string()
    absent = np.array([reason is not None for reason in reasons], dtype=bool)
    mask = absent if absent.any() else None
    values = [pyarrow.array(column, mask=mask) for column in columns]
    codes = pyarrow.array([reason and reason.code for reason in reasons], text)
    messages = pyarrow.array([reason and printable(reason.message) for reason in reasons], text)
    named = pyarrow.array([printable(path) for path in paths], text)
    return pyarrow.table([named, *values, codes, messages], schema=schema)


def parquet_options() -> dict[str, Any]:
    """How tables are stored: numbers do not repeat, so that a dictionary of them costs time and space."""
    return {"compression": "zstd", "use_dictionary": ["error"], "write_statistics": ["path"]}
