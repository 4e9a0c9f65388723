"""Autocorrelation of the residual."""

import numpy as np

from .planes import residual, tile_power

LAGS = [
    (0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0), (2, 2), (2, -2), (0, 3), (3, 0), (0, 4), (4, 0), (4, 4), (4, -4),
    (0, 8), (8, 0), (8, 8), (8, -8), (0, 16), (16, 0), (16, 16),
]  # fmt: skip


def twin(image: np.ndarray) -> np.ndarray:
    power = tile_power(residual(image))
    r = np.fft.ifft2(power).real * power.size / np.sum(power + 1e-4)
    window = np.roll(r, (16, 16), (0, 1))[:33, :33].ravel()
    # The value at lag 0 is the 545th of 33 × 33.
    ground = np.median(np.abs(np.delete(window, 16 * 33 + 16))) + 1e-3
    plain = [r[lag] for lag in LAGS]
    return np.array(plain + [abs(r[lag]) / ground for lag in LAGS if max(map(abs, lag)) >= 4])
