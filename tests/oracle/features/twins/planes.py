"""Luma, residual and tile spectra."""

import numpy as np
from PIL import Image
from scipy import ndimage

FLOOR = 0.01


def luma(image: np.ndarray) -> np.ndarray:
    """Pillow's own mode `L`, as floats."""
    return np.asarray(Image.fromarray(image).convert("L"), dtype=np.float64)


def residual(image: np.ndarray) -> np.ndarray:
    y = luma(image)
    return y - ndimage.median_filter(y, size=3, mode="nearest")


def tile_power(plane: np.ndarray) -> np.ndarray:
    """Mean of the tiles' periodograms, one real transform a tile: (64, 64), DC first."""
    window = np.sin(np.pi * (np.arange(64) + 0.5) / 64) ** 2
    window = np.outer(window, window)
    starts = []
    for n in plane.shape:
        count = -(-n // 64)
        starts.append([i * (n - 64) // max(count - 1, 1) for i in range(count)])
    periodograms = []
    for top in starts[0]:
        for left in starts[1]:
            tile = plane[top : top + 64, left : left + 64]
            periodograms.append(np.abs(np.fft.fft2((tile - tile.mean()) * window)) ** 2)
    return np.mean(periodograms, axis=0) / (window**2).sum()


def moments(v: np.ndarray) -> list[float]:
    """mean_abs, log_power, kurtosis, shape, zeros."""
    power = np.mean(v**2) + FLOOR
    mean_abs = np.mean(np.abs(v))
    return [mean_abs, np.log(power), np.mean(v**4) / power**2, mean_abs**2 / power, np.mean(v == 0)]


def neighbour_product(v: np.ndarray, dy: int, dx: int) -> float:
    """Mean of v(y,x) v(y+dy,x+dx) over the pairs inside."""
    h, w = v.shape
    a = v[: h - dy, max(0, -dx) : w - max(0, dx)]
    b = v[dy:, max(0, dx) : w - max(0, -dx)]
    return float(np.mean(a * b))
