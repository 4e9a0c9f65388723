"""What an actor does: reads a part, computes its rows, writes the part's file, returns one row about it.

Nothing here knows Ray; a worker is a class whose objects are called with one row of a data set.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mllmrisk.executors import dataset_inputs as inputs
from mllmrisk.executors.dataset_folders import Folder
from mllmrisk.executors.dataset_inputs import Part
from mllmrisk.executors.dataset_reading import Item, Reason, batches
from mllmrisk.executors.dataset_scores import sample_of, score_row, score_schema, scored
from mllmrisk.executors.dataset_tables import GROUP_ROWS, Block, feature_schema, feature_tables
from mllmrisk.extras import optional


class Worker(ABC):
    """Turns parts into files of a folder.

    Attributes:
        schema: the Arrow schema of the files.
    """

    schema: Any

    def __init__(self, out: str, cwd: str) -> None:
        """Opens the folder.

        Args:
            out: where results go, on every node.
            cwd: where relative paths of inputs start.
        """
        self._folder = Folder(out)
        with contextlib.suppress(OSError):  # a node may have no such folder; then its files give their reasons
            os.chdir(cwd)

    def __call__(self, row: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
        """Does one part: `{"number": [i], "part": [pickled Part]}` gives `{"done": [Done as JSON]}`."""
        (number,), (pickled,) = row["number"], row["part"]
        part: Part = pickle.loads(pickled)  # made by our own driver
        done = self._folder.write_part(int(number), inputs.digest(part), self.tables(part), self.schema)
        return {"done": [json.dumps(done._asdict())]}

    @abstractmethod
    def tables(self, part: Part) -> Iterator[Any]:
        """The rows of a part as Arrow tables of `schema`, in the order of its images."""


class FeatureWorker(Worker):
    """Features of a part."""

    def __init__(self, chosen: list[str], threads: int, out: str, cwd: str) -> None:
        """Prepares the columns of `chosen`."""
        super().__init__(out, cwd)
        from mllmrisk import features

        self._chosen, self._threads = chosen, threads
        self.schema = feature_schema(features.names(chosen))

    def tables(self, part: Part) -> Iterator[Any]:
        """One row per image."""
        blocks = (extracted(batch, self._chosen, self._threads) for batch in batches([part]))
        yield from feature_tables(blocks, self.schema)


def extracted(batch: Sequence[Item], chosen: list[str], threads: int | None) -> Block:
    """The features of a batch."""
    from mllmrisk import features

    found = features.extract([item.data for item in batch], features=chosen, threads=threads)
    reasons = {
        # the core can only number what came as bytes; where that number would stand, the row's name tells more
        row: Reason(error.code, str(error).replace(f"bytes {row}:", f"{batch[row].name}:", 1))
        for row, error in found.errors.items()
    }
    reasons |= {row: item.reason for row, item in enumerate(batch) if item.reason is not None}
    return Block([item.name for item in batch], found.values, reasons)


class ScoreWorker(Worker):
    """A detector's scores of a part; the model is loaded once per worker."""

    def __init__(self, detector: str, device: str, threads: int, out: str, cwd: str) -> None:
        """Loads the detector."""
        super().__init__(out, cwd)
        from mllmrisk import detectors

        self._detector = detectors.load(detector, device=device)
        self._threads = threads
        self.schema = score_schema(self._detector)

    def tables(self, part: Part) -> Iterator[Any]:
        """One row per image."""
        pyarrow = optional("pyarrow", "Parquet", "parquet")
        rows: list[dict[str, Any]] = []
        for batch in batches([part], facts=True):
            found = scored(self._detector, batch, self._threads)
            rows += [
                score_row(self._detector, sample_of(item), score, caption)
                for item, (score, caption) in zip(batch, found, strict=True)
            ]
            if len(rows) >= GROUP_ROWS:
                yield pyarrow.Table.from_pylist(rows, schema=self.schema)
                rows = []
        if rows:
            yield pyarrow.Table.from_pylist(rows, schema=self.schema)
