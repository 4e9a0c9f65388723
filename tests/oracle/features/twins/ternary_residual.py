"""Ternary local binary patterns of the chroma that luma does not explain."""

import numpy as np
from scipy import ndimage

from .ternary import block_sums, halved, shares


def window_sums(x: np.ndarray) -> np.ndarray:
    """Exact sums over 5x5 windows of integers."""
    return np.rint(25 * ndimage.uniform_filter(x.astype(np.float64), 5, mode="reflect")).astype(np.int64)


def residual(luma: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    y, c = ((2 * window_sums(x) + 25) // 50 for x in (luma, chroma))
    variance = window_sums(luma**2) - 2 * y * window_sums(luma) + 25 * y**2
    covariance = window_sums(luma * chroma) - y * window_sums(chroma) - c * window_sums(luma) + 25 * y * c
    ratio = covariance.astype(np.float32) / (variance + 25 * 4 * 64**2).astype(np.float32)
    a = np.rint(1024 * ratio).astype(np.int64)
    left = 25 * 1024 * chroma - window_sums(1024 * c - a * y) - luma * window_sums(a)
    return np.clip(np.rint((left + 512) // 1024 / 25), -16383, 16383).astype(np.int64)


def twin(image: np.ndarray) -> np.ndarray:
    half = halved(image)[:3]
    quarter = [(block_sums(x) + 2) // 4 for x in half]
    return np.concatenate([shares(residual(y, chroma)) for y, *both in (half, quarter) for chroma in both])
