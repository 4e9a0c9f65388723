"""Statistics of the 8×8 block DCT."""

import numpy as np
from scipy import fft

from .planes import FLOOR, luma


def coefficients(image: np.ndarray) -> np.ndarray:
    """(blocks, 8, 8) orthonormal coefficients of the whole blocks of luma."""
    y = luma(image)
    h, w = y.shape[0] // 8 * 8, y.shape[1] // 8 * 8
    blocks = y[:h, :w].reshape(h // 8, 8, w // 8, 8).swapaxes(1, 2)
    return fft.dctn(blocks, axes=(2, 3), norm="ortho").reshape(-1, 8, 8)


def twin(image: np.ndarray) -> np.ndarray:
    c = np.abs(coefficients(image)).reshape(-1, 64)[:, 1:]
    scale = np.log(c.mean(0) + 0.01)
    log = np.log(c + 0.1).mean(0)
    kurtosis = (c**4).mean(0) / ((c**2).mean(0) + FLOOR) ** 2
    return np.concatenate([scale, log, kurtosis, (c < 0.6).mean(0)])
