"""Radial and angular spectra."""

import numpy as np

from .planes import FLOOR, luma, residual, tile_power


def frequencies() -> tuple[np.ndarray, np.ndarray]:
    f = np.fft.fftfreq(64) * 64
    return np.meshgrid(f, f, indexing="ij")


def radial(image: np.ndarray) -> np.ndarray:
    fy, fx = frequencies()
    ring = np.minimum(np.round(np.hypot(fy, fx)).astype(int), 33)
    values = []
    for plane in (luma(image), residual(image)):
        power = tile_power(plane)
        log = np.array([np.log(power[ring == r].mean() + FLOOR) for r in range(1, 34)])
        level = log[:32].mean()
        values.append([level, *(log - level)])
    return np.concatenate(values)


def angular(image: np.ndarray) -> np.ndarray:
    fy, fx = frequencies()
    inside = np.hypot(fy, fx) > 6.4
    bins = np.round(16 * np.arctan2(fy, fx) / np.pi).astype(int) % 16
    values = []
    for plane in (luma(image), residual(image)):
        power = tile_power(plane) + FLOOR
        sums = np.array([power[inside & (bins == b)].sum() for b in range(16)])
        values.append(sums / sums.sum())
    return np.concatenate(values)
