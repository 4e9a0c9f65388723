"""Training images: decoded, perturbed and prepared by the core, ahead of the network, the same draws from one seed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk import images
from mllmrisk.images import Preprocessing

T = TypeVar("T")
Floats = NDArray[np.float32]
Rows = NDArray[np.uint8]

#: The perturbation chain of the image at a position: of its augmented copy of that number, or None for the view's own.
Look = Callable[[int, int | None], str]

#: Bytes of prepared images that a reader keeps: copies come round again, and folds share images.
KEPT = 1 << 29


class Examples(NamedTuple):
    """The images that a network is trained on, validated with and calibrated on.

    Attributes:
        sources: n files.
        names: what tells their bytes apart: sha256.
        labels: (n,) bool, True for generated.
        groups: (n,) int64: images of one group are never in two parts of the division.
        kinds: (n,) paradigms, so that each part has its share of each.
        weights: (n,) float64: how often an image is drawn, in proportion.
    """

    sources: Sequence[Path | bytes]
    names: Sequence[str]
    labels: NDArray[np.bool_]
    groups: NDArray[np.int64]
    kinds: NDArray[np.str_]
    weights: NDArray[np.float64]


class Batch(NamedTuple):
    """Rows for one step.

    Attributes:
        values: (m, 3, h, w) float32.
        labels: (m,) float32.
        weights: (m,) float32, those of an image sum to 1.
        owners: (m,) int64, the position of each row's image.
    """

    values: Floats
    labels: Floats
    weights: Floats
    owners: NDArray[np.int64]


class Reader:
    """Prepared images by file and chain, kept as 8-bit pixels up to a budget and scaled when they are drawn.

    Attributes:
        how: the network's input.
        unreadable: the reason of each image that gave none, by its name and chain.
    """

    def __init__(self, how: Preprocessing, *, threads: int | None = None, kept: int = KEPT) -> None:
        """Keeps at most `kept` bytes."""
        self.how = how
        self.unreadable: dict[tuple[str, str], str] = {}
        # The core's resampling ends in 8 bits, so that nothing is lost by scaling here.
        self._plain = msgspec.structs.replace(how, scale=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        self._threads = threads
        self._room = kept
        self._rows: dict[tuple[str, str], Rows] = {}
        self._mean = np.array(how.mean, np.float32)[:, None, None]
        self._std = np.array(how.std, np.float32)[:, None, None]

    def rows(self, examples: Examples, positions: Sequence[int], chains: Sequence[str]) -> list[Rows | None]:
        """(k, 3, h, w) uint8 for each image under its chain; None for one that gives none."""
        keys = [(examples.names[i], chain) for i, chain in zip(positions, chains, strict=True)]
        missing = {key: i for key, i in zip(keys, positions, strict=True) if key not in self._rows}
        wanted = {key: i for key, i in missing.items() if key not in self.unreadable}
        made = self._made(examples, wanted)
        for key, row in made.items():
            if row.nbytes <= self._room:
                self._room -= row.nbytes
                self._rows[key] = row
        return [self._rows.get(key, made.get(key)) for key in keys]

    def _made(self, examples: Examples, wanted: dict[tuple[str, str], int]) -> dict[tuple[str, str], Rows]:
        if not wanted:
            return {}
        keys = list(wanted)
        found = images.prepare(
            [examples.sources[i] for i in wanted.values()],
            self._plain,
            chains=[None if chain == "native" else chain for _, chain in keys],
            threads=self._threads,
        )
        self.unreadable |= {keys[i]: error.code for i, error in found.errors.items()}
        pixels = np.rint(found.values).astype(np.uint8)
        return {key: pixels[found.rows == i] for i, key in enumerate(keys) if i not in found.errors}

    def scaled(self, rows: Rows) -> Floats:
        """(m, 3, h, w) float32 as the network takes it."""
        return (rows.astype(np.float32) * np.float32(self.how.scale) - self._mean) / self._std


def drawn(weights: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draws n positions, each as often as its weight asks, rounded up or down by one draw for all; in random order.

    Systematic sampling: an epoch has the proportions of the weights with far less chance than drawing one by one.
    """
    n = len(weights)
    edges = np.cumsum(weights) / weights.sum() * n
    chosen = np.searchsorted(edges, rng.random() + np.arange(n), side="right")
    return rng.permutation(np.minimum(chosen, n - 1)).astype(np.int64)


def training_batches(
    examples: Examples,
    positions: NDArray[np.int64],
    look: Look,
    reader: Reader,
    *,
    batch: int,
    tiles: int,
    copy: int,
    rng: np.random.Generator,
) -> Iterator[Batch]:
    """One epoch of balanced batches; what is drawn does not depend on what was drawn before.

    Args:
        examples: all images.
        positions: those that are fitted.
        look: the chain of an image's copy.
        reader: prepares them.
        batch: images a step.
        tiles: of an image with more rows, so many are drawn.
        copy: which augmented copy.
        rng: of this epoch.
    """
    order = positions[drawn(examples.weights[positions], rng)]
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        rows = reader.rows(examples, chosen.tolist(), [look(int(i), copy) for i in chosen])
        kept = [
            (int(i), row if len(row) <= tiles else row[np.sort(rng.permutation(len(row))[:tiles])])
            for i, row in zip(chosen, rows, strict=True)
            if row is not None and len(row)
        ]
        if kept:
            yield _batch(examples, kept, reader)


def plain_batches(
    examples: Examples, positions: NDArray[np.int64], look: Look, reader: Reader, batch: int
) -> Iterator[Batch]:
    """Every image once, in order, with all its rows, under the view's own chain."""
    for start in range(0, len(positions), batch):
        chosen = positions[start : start + batch]
        rows = reader.rows(examples, chosen.tolist(), [look(int(i), None) for i in chosen])
        kept = [(int(i), row) for i, row in zip(chosen, rows, strict=True) if row is not None and len(row)]
        if kept:
            yield _batch(examples, kept, reader)


def _batch(examples: Examples, kept: list[tuple[int, Rows]], reader: Reader) -> Batch:
    owners = np.concatenate([np.full(len(row), i) for i, row in kept])
    weights = np.concatenate([np.full(len(row), 1 / len(row)) for _, row in kept])
    values = reader.scaled(np.concatenate([row for _, row in kept]))
    return Batch(values, examples.labels[owners].astype(np.float32), weights.astype(np.float32), owners)


def ahead(items: Iterator[T], depth: int = 2) -> Iterator[T]:
    """The same items, made by a thread up to `depth` ahead; its error is raised here, in its place.

    The thread ends when the items do, or when this iterator is closed.
    """
    made: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    closed = threading.Event()

    def put(item: T | None, error: BaseException | None) -> None:
        while not closed.is_set():
            try:
                made.put((item, error), timeout=0.1)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for item in items:
                put(item, None)
                if closed.is_set():
                    return
        except BaseException as error:  # carried over to the thread that waits
            put(None, error)
        else:
            put(None, StopIteration())

    thread = threading.Thread(target=work, name="mllmrisk-ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            assert item is not None
            yield item
    finally:
        closed.set()
        thread.join()
