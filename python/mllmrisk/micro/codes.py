"""The visual words of `micro-mllm`: k-means on patches of 16 x 16 pixels.

The model writes a picture as 6 x 6 words. A word is chosen by what the patch looks like at 4 pixels' resolution, on its
principal axes; the decoder then learns what each word looks like among its neighbours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mllmrisk.micro.data import pictures
from mllmrisk.micro.fitting import write_log
from mllmrisk.micro.vae import COUNT

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Rows = npt.NDArray[np.float32]

WORDS = 2048
"""Size of the vocabulary."""
GRID = 6
"""Words along each side of a picture."""
AXES = 64
"""Principal axes that k-means works on."""
SAMPLE = 80_000
"""Patches that k-means learns from, drawn in proportion to their distance from the picture's commonest look."""
ROUNDS = 25


class Codebook(NamedTuple):
    """What it takes to read a picture in words."""

    mean: Rows
    """`(192,)`: the mean patch."""
    axes: Rows
    """`(192, AXES)`: principal axes, by falling variance."""
    centres: Rows
    """`(WORDS, AXES)`: the words."""


def patches(batch: npt.NDArray[np.uint8]) -> Rows:
    """`(n, 96, 96, 3)` uint8 to `(n, 36, 192)`: patches row by row, each as 8 x 8 means of 2 x 2 pixels, in [-1, 1]."""
    side, cells = 96 // GRID, 8
    fine = batch.reshape(-1, GRID, cells, side // cells, GRID, cells, side // cells, 3).mean((3, 6), dtype=np.float32)
    return (fine / 127.5 - 1).transpose(0, 1, 3, 2, 4, 5).reshape(len(batch), GRID * GRID, cells * cells * 3)


def words(batch: npt.NDArray[np.uint8], book: Codebook) -> npt.NDArray[np.int16]:
    """`(n, 96, 96, 3)` uint8 to `(n, 36)`: the word nearest to each patch."""
    rows = np.asarray((patches(batch).reshape(-1, 192) - book.mean) @ book.axes, np.float32)
    return nearest(rows, book.centres).reshape(len(batch), GRID * GRID)


def nearest(rows: Rows, centres: Rows) -> npt.NDArray[np.int16]:
    """The number of each row's nearest centre."""
    lengths = (centres**2).sum(1) / 2
    parts = [np.argmin(lengths - rows[at : at + 8192] @ centres.T, 1) for at in range(0, len(rows), 8192)]
    return np.concatenate(parts).astype(np.int16)


def train(out: Path, until: float | None = None) -> bool:
    """Learns the vocabulary and reads all training pictures in it; once."""
    if (out / "codes.npz").exists():
        return True
    drawn = pictures("generators", COUNT, out)
    rng = np.random.default_rng(7)
    rows = patches(drawn[:4000]).reshape(-1, 192)
    mean = rows.mean(0)
    _, _, turned = np.linalg.svd(rows[rng.choice(len(rows), 20_000, replace=False)] - mean, full_matrices=False)
    axes = np.ascontiguousarray(turned[:AXES].T)
    rows = (rows - mean) @ axes
    busy = np.sqrt(((rows.reshape(-1, GRID * GRID, AXES) - _flat(rows)) ** 2).sum(2)).ravel() + 0.05
    rows = rows[rng.choice(len(rows), SAMPLE, replace=False, p=busy / busy.sum())]
    book = Codebook(mean, axes, kmeans(rows, WORDS, rng))
    read = np.concatenate([words(drawn[at : at + 500], book) for at in range(0, COUNT, 500)])
    counts = np.bincount(read.ravel(), minlength=WORDS) / read.size
    perplexity = float(np.exp(-(counts * np.log(np.maximum(counts, 1e-12))).sum()))
    write_log(out, {"name": "codes", "perplexity": round(perplexity, 1), "used": int((counts > 0).sum())})
    np.savez(out / "codes.npz", words=read, **book._asdict())
    return True


def kmeans(rows: Rows, count: int, rng: np.random.Generator) -> Rows:
    """Lloyd's algorithm; a centre that lost all its rows starts again from a random one."""
    centres = rows[rng.choice(len(rows), count, replace=False)]
    for _ in range(ROUNDS):
        chosen = nearest(rows, centres)
        sums, sizes = np.zeros_like(centres), np.bincount(chosen, minlength=count)
        np.add.at(sums, chosen, rows)
        means = sums / np.maximum(sizes, 1).astype(np.float32)[:, None]
        centres = np.where(sizes[:, None] > 0, means, rows[rng.integers(len(rows), size=count)])
    return centres


def load(out: Path) -> tuple[Codebook, npt.NDArray[np.int64]]:
    """The vocabulary, and `(COUNT, 36)`: the training pictures in words."""
    with np.load(out / "codes.npz") as kept:
        return Codebook(*(kept[name].astype(np.float32) for name in Codebook._fields)), kept["words"].astype(np.int64)


def _flat(rows: Rows) -> Rows:
    """`(n, 1, AXES)`: each picture's median patch."""
    return np.median(rows.reshape(-1, GRID * GRID, AXES), axis=1, keepdims=True)
