"""What an actor does: reads a part, computes its rows, writes the part's file, returns one row about it.

Nothing here knows Ray; a worker is a class whose objects are called with one row of a data set.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mllmrisk.errors import MllmriskError
from mllmrisk.executors import dataset_inputs as inputs
from mllmrisk.executors.dataset_folders import Folder
from mllmrisk.executors.dataset_inputs import Part
from mllmrisk.executors.dataset_reading import Item, Reason, batches
from mllmrisk.executors.dataset_scores import sample_of, score_row, score_schema, scored
from mllmrisk.executors.dataset_tables import GROUP_ROWS, Block, feature_schema, feature_tables
from mllmrisk.extras import optional

if TYPE_CHECKING:
    from mllmrisk.detectors.base import Detector


class Worker(ABC):
    """Turns parts into files of a folder.

    What it needs is made with the first part, so that whatever fails is told in a row and not as a dead actor.
    """

    def __init__(self, out: str, cwd: str) -> None:
        """Opens nothing yet.

        Args:
            out: where results go, on every node.
            cwd: where relative paths of inputs start.
        """
        self._out = out
        with contextlib.suppress(OSError):  # a node may have no such folder; then its files give their reasons
            os.chdir(cwd)

    def __call__(self, row: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
        """Does one part: `{"number": [i], "part": [pickled Part]}` gives `{"done": [Done as JSON], "wrong": [""]}`.

        What stops the whole work (a detector that cannot be loaded, a folder that cannot be written to) is the sentence
        in `wrong`.
        """
        (number,), (pickled,) = row["number"], row["part"]
        part: Part = pickle.loads(pickled)  # made by our own driver
        try:
            done = self._folder.write_part(int(number), inputs.digest(part), self.tables(part), self.schema)
        except (MllmriskError, OSError) as wrong:
            return {"done": [""], "wrong": [str(wrong) or type(wrong).__name__]}
        return {"done": [json.dumps(done._asdict())], "wrong": [""]}

    @functools.cached_property
    def _folder(self) -> Folder:
        return Folder(self._out)

    @property
    @abstractmethod
    def schema(self) -> Any:
        """The Arrow schema of the files."""

    @abstractmethod
    def tables(self, part: Part) -> Iterator[Any]:
        """The rows of a part as Arrow tables of `schema`, in the order of its images."""


class FeatureWorker(Worker):
    """Features of a part."""

    def __init__(self, chosen: list[str], threads: int, out: str, cwd: str) -> None:
        """Features by their names, and the threads of the core."""
        super().__init__(out, cwd)
        self._chosen, self._threads = chosen, threads

    @functools.cached_property
    def schema(self) -> Any:
        """`path`, the features, the error."""
        from mllmrisk import features

        return feature_schema(features.names(self._chosen))

    def tables(self, part: Part) -> Iterator[Any]:
        """One row per image."""
        blocks = (extracted(batch, self._chosen, self._threads) for batch in batches([part]))
        yield from feature_tables(blocks, self.schema)


class ScoreWorker(Worker):
    """A detector's scores of a part; the model is loaded once per worker."""

    def __init__(self, detector: str, device: str, threads: int, out: str, cwd: str) -> None:
        """A detector by its name or file, and where it runs."""
        super().__init__(out, cwd)
        self._name, self._device, self._threads = detector, device, threads

    @functools.cached_property
    def _detector(self) -> Detector:
        from mllmrisk import detectors

        return detectors.load(self._name, device=self._device)

    @functools.cached_property
    def schema(self) -> Any:
        """The columns of `mllmrisk detect`."""
        return score_schema(self._detector)

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
