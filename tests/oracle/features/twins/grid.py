"""Steps folded modulo 8."""

import numpy as np

from .planes import luma


def twin(image: np.ndarray) -> np.ndarray:
    y = luma(image)
    values: list[float] = []
    for plane in (y, y.T):
        step = np.abs(np.diff(plane, axis=1)).mean(0)
        s = np.array([step[p::8].mean() for p in range(8)]) + 0.01
        values += [np.log(s[7] / s[:7].mean()), np.log(s.max() / s.mean())]
        values += list(np.abs(np.fft.fft(s))[1:5] / s.sum())
    return np.array(values)
