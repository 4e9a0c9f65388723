"""Which image comes when, and what chance has in store for it: functions of seed, epoch and index alone.

Nothing here depends on how many processes share the work, so that no result does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def order(
    blocks: Indices, count: int, *, shuffle: int, seed: int, epoch: int, rank: int = 0, world: int = 1
) -> Indices:
    """The images of one rank in one epoch.

    The blocks are put into a random order and cut into `world` runs that differ by at most one image; each run is then
    shuffled `shuffle` images at a time. So an image is read near the others of its block, and blocks of one image are
    shuffled as a whole.

    Args:
        blocks: (k,) first image of each run of images that are best read together, ascending from 0.
        count: images in all.
        shuffle: images that are held to draw from; 0: none, the order is the stored one.
        seed: of the dataset.
        epoch: another epoch, another order.
        rank: which run.
        world: how many there are.

    Returns:
        Indices of images, int64; all ranks together have each image once.
    """
    first, last = rank * count // world, (rank + 1) * count // world
    if not shuffle:
        return np.arange(first, last, dtype=np.int64)
    ends = np.append(blocks[1:], count)
    drawn = np.random.default_rng((seed, epoch)).permutation(len(blocks))
    sizes = (ends - blocks)[drawn]
    before = np.cumsum(sizes) - sizes
    # Image j of the permuted blocks is image j - before of its block.
    every = np.repeat(blocks[drawn] - before, sizes) + np.arange(count, dtype=np.int64)
    mine = np.asarray(every[first:last], np.int64)
    if len(blocks) < count:
        draw = np.random.default_rng((seed, epoch, rank, world))
        for start in range(0, len(mine), shuffle):
            draw.shuffle(mine[start : start + shuffle])
    return mine


def draws(seed: int, epoch: int, indices: Indices, purpose: int) -> npt.NDArray[np.uint64]:
    """One 64-bit number for each image, uniform and as good as independent.

    Args:
        seed: of the dataset, 0 to 2^64 - 1.
        epoch: from 0.
        indices: (n,) of the images.
        purpose: what it is for: two purposes draw nothing alike.
    """
    state = np.full(indices.shape, seed, np.uint64)
    for part in (np.uint64(purpose), np.uint64(epoch), indices.astype(np.uint64)):
        state = _mixed(state + part)
    return state


def fractions(seed: int, epoch: int, indices: Indices, purpose: int) -> npt.NDArray[np.float64]:
    """As `draws`, uniform in [0, 1)."""
    return np.asarray((draws(seed, epoch, indices, purpose) >> np.uint64(11)) * 2.0**-53, np.float64)


def _mixed(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A step of SplitMix64 (Steele, Lea and Flood 2014): each bit of the input moves half the bits of the output."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
