"""What an actor does: reads a part, computes its rows, writes the part's file, returns one row about it.

Nothing here knows Ray; a worker is a class whose objects are called with one row of a data set.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mllmrisk.executors import dataset_inputs as inputs
from mllmrisk.executors.dataset_folders import Folder
from mllmrisk.executors.dataset_inputs import Part
from mllmrisk.executors.dataset_reading import Item, Reason, batches
from mllmrisk.executors.dataset_tables import GROUP_ROWS, Block, feature_schema, feature_tables, score_schema
from mllmrisk.extras import optional
from mllmrisk.manifest import printable

if TYPE_CHECKING:
    from mllmrisk.detectors.base import Detector
    from mllmrisk.records import Score


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
    reasons = {row: Reason(error.code, str(error)) for row, error in found.errors.items()}
    reasons |= {row: item.reason for row, item in enumerate(batch) if item.reason is not None}
    return Block([item.name for item in batch], found.values, reasons)


class ScoreWorker(Worker):
    """A detector's scores of a part; the model is loaded once per worker."""

    def __init__(self, detector: str, device: str, threads: int, out: str, cwd: str) -> None:
        """Loads the detector."""
        super().__init__(out, cwd)
        from mllmrisk import detectors
        from mllmrisk.detectors.base import Captioning

        self._detector = detectors.load(detector, device=device)
        self._threads = threads
        self._rates = sorted(self._detector.thresholds, reverse=True)
        self.schema = score_schema(self._rates, captions=isinstance(self._detector, Captioning))

    def tables(self, part: Part) -> Iterator[Any]:
        """One row per image."""
        pyarrow = optional("pyarrow", "Parquet", "parquet")
        rows: list[dict[str, Any]] = []
        for batch in batches([part], facts=True):
            found = scored(self._detector, batch, self._threads)
            rows += [score_row(self._detector, self._rates, item, *own) for item, own in zip(batch, found, strict=True)]
            if len(rows) >= GROUP_ROWS:
                yield pyarrow.Table.from_pylist(rows, schema=self.schema)
                rows = []
        if rows:
            yield pyarrow.Table.from_pylist(rows, schema=self.schema)


def scored(detector: Detector, batch: Sequence[Item], threads: int | None) -> list[tuple[Score, str | None]]:
    """The scores of a batch; an image that could not be read is unscored, with the reason."""
    from pathlib import Path

    from mllmrisk.detectors.base import Captioning
    from mllmrisk.records import Score

    images = [item.data if isinstance(item.data, bytes) else Path(item.data) for item in batch]
    if isinstance(detector, Captioning):
        found = list(detector.captioned(images, threads=threads))
    else:
        found = [(score, None) for score in detector.score(images, threads=threads)]
    return [
        (Score(None, item.reason.code), None) if item.reason is not None else own
        for item, own in zip(batch, found, strict=True)
    ]


def score_row(
    detector: Detector, rates: Sequence[float], item: Item, score: Score, caption: str | None
) -> dict[str, Any]:
    """A row of `dataset_tables.score_schema`; its columns that are not here stay null."""
    facts = item.facts
    label = facts.get("label", "unknown")
    row: dict[str, Any] = {
        "path": printable(item.name),
        "label": None if label == "unknown" else label,
        "paradigm": facts.get("paradigm", "real" if label == "real" else "unknown"),
        "generator": facts.get("generator"),
        "caption": caption,
        "error": None,
    }
    if score.value is None:
        return {**row, "error": score.reason or "unscored"}
    row["score"] = score.value
    row["probability"] = 1.0 / (1.0 + math.exp(-score.value)) if score.value > -700 else 0.0
    row["fake_by_author"] = score.value >= getattr(detector, "decision", 0.0)
    return {**row, **{f"fake_at_{rate:g}": score.value > detector.thresholds[rate] for rate in rates}}
