"""Synthbuster: the transform of the whole cross-difference, read at its harmonics."""

import numpy as np


def cross_difference(channel: np.ndarray) -> np.ndarray:
    x = channel.astype(np.float64)
    return x[:-1, :-1] + x[1:, 1:] - x[:-1, 1:] - x[1:, :-1]


def harmonics(channel: np.ndarray, period: int) -> np.ndarray:
    """(period, period) magnitudes at (mH/P, nW/P), the mean of |d| at [0, 0]."""
    a = np.abs(cross_difference(channel))
    h, w = a.shape[0] // 16 * 16, a.shape[1] // 16 * 16
    spectrum = np.abs(np.fft.fft2(a[:h, :w])) / (h * w)
    return spectrum[:: h // period, :: w // period]


def half_plane(period: int) -> list[tuple[int, int]]:
    half = period // 2
    return [
        (m, n) for n in range(half + 1) for m in range(0 if n in (0, half) else 1 - half, half + 1) if (m, n) != (0, 0)
    ]


def period8(image: np.ndarray) -> np.ndarray:
    values = []
    for c in range(3):
        a = harmonics(image[..., c], 8)
        mean = a[0, 0] + 1e-3
        values += [np.log(mean), *(np.log(a[k] / mean + 1e-3) for k in half_plane(8))]
    return np.array(values)


def period16(image: np.ndarray) -> np.ndarray:
    a = sum(harmonics(image[..., c], 16) for c in range(3))
    return np.array([np.log(a[m, n] / (a[0, 0] + 3e-3) + 1e-3) for m, n in half_plane(16) if m % 2 or n % 2])
