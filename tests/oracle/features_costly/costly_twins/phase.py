"""Phase-only image and monogenic phase congruency, one full transform per plane."""

import numpy as np

from .luma import luma


def centre(y: np.ndarray, h: int, w: int) -> np.ndarray:
    top, left = (y.shape[0] - h) // 2, (y.shape[1] - w) // 2
    region = y[top : top + h, left : left + w].astype(float)
    return region - region.mean()


def whitened(y: np.ndarray) -> list[float]:
    region = centre(y, *(min(n, 256) for n in y.shape))
    f = np.fft.fft2(region)
    kept = np.abs(f) > 1e-5 * np.abs(f).max()
    if not kept.any():
        return [0.0] * 6
    s = np.fft.ifft2(np.where(kept, np.exp(1j * np.angle(f)), 0)).real * np.sqrt(region.size)
    a = np.abs(s)
    power = np.mean(s**2)
    blocks = s[: s.shape[0] // 16 * 16, : s.shape[1] // 16 * 16].reshape(s.shape[0] // 16, 16, -1, 16)
    variance = power - a.mean() ** 2 + 0.01
    neighbours = [np.mean(a[:, :-1] * a[:, 1:]), np.mean(a[:-1] * a[1:])]
    return [
        a.mean(),
        np.mean(s**3) / power**1.5,
        np.mean(s**4) / power**2,
        np.log(np.mean(blocks**2, axis=(1, 3)) + 0.01).std(),
        *[(product - a.mean() ** 2) / variance for product in neighbours],
    ]


def congruency(y: np.ndarray) -> list[float]:
    side = 128 if min(y.shape) >= 128 else 64
    f = np.fft.fft2(centre(y, side, side))
    fy, fx = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij")
    radius = np.hypot(fx, fy)
    radius[0, 0] = 1
    odd_x, odd_y = (np.where(np.abs(g) == 0.5, 0, g) for g in (fx, fy))
    even, across, down, amplitude = (np.zeros((side, side)) for _ in range(4))
    for wavelength in (3, 6.3, 13.23):
        gain = np.exp(-(np.log(radius * wavelength) ** 2) / (2 * np.log(0.55) ** 2))
        gain[0, 0] = 0
        e, h1, h2 = (np.fft.ifft2(f * gain * factor).real for factor in (1, -1j * odd_x / radius, -1j * odd_y / radius))
        amplitude += np.sqrt(e**2 + h1**2 + h2**2)
        even, across, down = even + e, across + h1, down + h2
    energy = np.sqrt(even**2 + across**2 + down**2)
    ratio = energy / (amplitude + 0.5)
    h1, h2 = np.mean(across**2), np.mean(down**2)
    return [
        ratio.mean(),
        ratio.std(),
        energy.mean() / (amplitude.mean() + 0.5),
        np.abs(even).mean() / (energy.mean() + 0.5),
        (h1 - h2) / (h1 + h2 + 0.25),
    ]


def values(image: np.ndarray) -> np.ndarray:
    y = luma(image)
    return np.array(whitened(y) + congruency(y))
