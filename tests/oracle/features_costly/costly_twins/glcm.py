"""Grey-level co-occurrence: the whole symmetric matrix, Haralick's sums written out."""

import numpy as np
from scipy.signal import correlate2d

from .luma import luma

OFFSETS = [(0, 1), (1, 0), (0, 5), (5, 0)]


def scalars(levels: np.ndarray, count: int, down: int, right: int) -> list[float]:
    h, w = levels.shape
    a = levels[: h - down : 2, : w - right]
    b = levels[down:, right:][::2]
    p = np.zeros((count, count))
    np.add.at(p, (a, b), 1)
    p = (p + p.T) / (2 * p.sum())
    i, j = np.indices(p.shape)
    mean = np.sum(i * p)
    variance = np.sum((i - mean) ** 2 * p)
    covariance = np.sum((i - mean) * (j - mean) * p)
    filled = p[p > 0]
    return [
        np.sum((i - j) ** 2 * p),
        np.sum(p / (1 + (i - j) ** 2)),
        np.sum(p**2),
        covariance / variance if variance > 1e-12 else 0.0,
        -np.sum(filled * np.log(filled)),
    ]


def values(image: np.ndarray) -> np.ndarray:
    y = luma(image)
    residual = correlate2d(y, [[-1, 2, -1], [2, -4, 2], [-1, 2, -1]], "valid")[1:-1, 1:-1]
    levels = np.clip(np.floor((residual + 2) / 4), -8, 7).astype(int) + 8
    return np.array(
        [s for plane, n in ((y, 256), (levels, 16)) for offset in OFFSETS for s in scalars(plane, n, *offset)]
    )
