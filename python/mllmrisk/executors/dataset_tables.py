"""Blocks of rows as Arrow tables: one row per image, the same columns whichever executor made them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mllmrisk.executors.dataset_reading import Reason
from mllmrisk.extras import optional
from mllmrisk.manifest import printable

#: Rows of a Parquet row group: hundreds of columns need large groups, or the footer outgrows the data.
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


def feature_table(blocks: Sequence[Block], schema: Any) -> Any:
    """The rows of blocks; a row without values has nulls."""
    pyarrow = optional("pyarrow", "Parquet", "parquet")
    text = pyarrow.string()
    paths = [printable(path) for block in blocks for path in block.paths]
    reasons = [block.reasons.get(row) for block in blocks for row in range(len(block.paths))]
    empty = np.empty((0, len(schema.names) - 3), np.float32)
    values = np.concatenate([block.values for block in blocks] or [empty])
    absent = np.array([reason is not None for reason in reasons], dtype=bool)
    columns = [pyarrow.array(np.ascontiguousarray(column), mask=absent) for column in values.T]
    codes = pyarrow.array([reason and reason.code for reason in reasons], text)
    messages = pyarrow.array([reason and printable(reason.message) for reason in reasons], text)
    return pyarrow.table([pyarrow.array(paths, text), *columns, codes, messages], schema=schema)


def feature_tables(blocks: Iterable[Block], schema: Any) -> Iterator[Any]:
    """The rows of blocks as tables of thousands of rows, each a row group."""
    held: list[Block] = []
    for block in blocks:
        held.append(block)
        if sum(len(one.paths) for one in held) >= GROUP_ROWS:
            yield feature_table(held, schema)
            held = []
    if held:
        yield feature_table(held, schema)


def parquet_options() -> dict[str, Any]:
    """How tables are stored: numbers do not repeat, so that a dictionary of them costs time and space."""
    return {"compression": "zstd", "use_dictionary": ["error"]}
