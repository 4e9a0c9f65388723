"""Residual co-occurrences."""

import numpy as np
from scipy import signal

from .planes import luma

KERNEL = np.array([[-1, 2, -1], [2, -4, 2], [-1, 2, -1]])


def twin(image: np.ndarray) -> np.ndarray:
    v = np.round(signal.convolve2d(luma(image), KERNEL, mode="valid"))
    r = np.clip(np.sign(v) * np.floor(np.abs(v) / 4 + 0.5), -2, 2)
    rows = [r[:, i : r.shape[1] - 3 + i].ravel() for i in range(4)]
    columns = [r[i : r.shape[0] - 3 + i].ravel() for i in range(4)]
    tuples = np.concatenate([np.stack(rows, 1), np.stack(columns, 1)])
    shares, _ = np.histogramdd(tuples, bins=[np.arange(-2.5, 3)] * 4)
    shares /= len(tuples)
    classes: dict[tuple[int, ...], float] = {}
    for cell in np.ndindex(5, 5, 5, 5):
        t = tuple(s - 2 for s in cell)
        negative = tuple(-s for s in t)
        name = min(t, t[::-1], negative, negative[::-1])
        classes[name] = classes.get(name, 0.0) + shares[cell]
    return np.array([classes[name] for name in sorted(classes)])
