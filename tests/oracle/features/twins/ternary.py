"""Ternary local binary patterns of luma, chroma, range and excess."""

import numpy as np

NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


def smallest(pattern: int) -> int:
    """The smallest pattern that rotation and reflection make of it."""
    ring = [pattern >> k & 1 for k in range(8)]
    turned = [ring[k:] + ring[:k] for k in range(8)]
    return min(sum(bit << k for k, bit in enumerate(r)) for t in turned for r in (t, t[::-1]))


SMALLEST = np.array([smallest(pattern) for pattern in range(256)])


def block_sums(x: np.ndarray) -> np.ndarray:
    h, w = x.shape[0] // 2, x.shape[1] // 2
    return x[: 2 * h, : 2 * w].reshape(h, 2, w, 2).sum((1, 3))


def shares(x: np.ndarray) -> np.ndarray:
    t = (np.abs(np.diff(x, axis=1)).mean() + np.abs(np.diff(x, axis=0)).mean()) / 4 + 6.4
    centre = x[1:-1, 1:-1]
    upper, lower = np.zeros_like(centre), np.zeros_like(centre)
    for k, (dy, dx) in enumerate(NEIGHBOURS):
        step = np.roll(x, (-dy, -dx), (0, 1))[1:-1, 1:-1] - centre
        upper += (step >= t) * 2**k
        lower += (-step >= t) * 2**k
    classes = SMALLEST[np.concatenate([upper.ravel(), lower.ravel()])]
    counts = np.bincount(classes, minlength=256)[np.unique(SMALLEST)]
    return np.sqrt(counts / counts.sum())


def halved(image: np.ndarray) -> list[np.ndarray]:
    """Y, Cb, Cr, range and excess of 2x2 pixels, in 1/64 grey level."""
    r, g, b = (block_sums(image[..., c].astype(int)) for c in range(3))
    half = [
        (77 * r + 150 * g + 29 * b + 8) // 16,
        (-43 * r - 85 * g + 128 * b + 8) // 16,
        (128 * r - 107 * g - 21 * b + 8) // 16,
        16 * block_sums(np.ptp(image.astype(int), axis=2)),
    ]
    half.append(16 * block_sums(image.max(axis=2).astype(int)) - half[0])
    return half


def twin(image: np.ndarray) -> np.ndarray:
    half = halved(image)
    quarter = [(block_sums(x) + 2) // 4 for x in half]
    return np.concatenate([shares(x) for x in half + quarter])
