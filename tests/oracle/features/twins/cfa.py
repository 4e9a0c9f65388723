"""Traces of a colour filter array, read off the whole transform of the prediction error."""

import numpy as np
from scipy import ndimage

CROSS = np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]]) / 4


def twin(image: np.ndarray) -> np.ndarray:
    values: list[float] = []
    for c in range(3):
        e = np.abs(ndimage.correlate(image[..., c].astype(np.float64), CROSS))[1:-1, 1:-1]
        h, w = e.shape[0] // 2 * 2, e.shape[1] // 2 * 2
        e = e[:h, :w]
        spectrum = np.abs(np.fft.fft2(e))
        median = np.sqrt(np.log(2) * np.sum((e - e.mean()) ** 2)) + 0.01 * np.sqrt(e.size)
        level = e.size * (e.mean() + 0.01)
        both, rows, columns = spectrum[h // 2, w // 2], spectrum[h // 2, 0], spectrum[0, w // 2]
        values += [np.log1p(both / median), both / level, rows / level, columns / level]
    return np.array(values)
