"""A simulated camera: what a picture of the world looks like after lens, sensor, demosaicing and JPEG.

It gives the embedded profile its real images: the same world as the generators', with the traces of a camera (colour
filter array, correlated noise, JPEG) and without any model's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mllmrisk import perturb

if TYPE_CHECKING:
    import numpy.typing as npt

BLUR = (0.35, 0.6)
"""Range of the lens's blur: standard deviation of its Gaussian in pixels."""
SHOT = (0.0004, 0.0012)
"""Range of the shot noise: variance per unit of linear light, whose full scale is 1."""
READ = 0.004
"""Standard deviation of the read noise in linear light."""
QUALITY = (85, 97)
"""Range of the JPEG quality, the end excluded."""


def photograph(picture: npt.NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """Takes a picture's photograph.

    Args:
        picture: `(height, width, 3)` uint8, RGB; height and width even.
        rng: decides blur, noise and JPEG quality; the same state gives the same bytes.

    Returns:
        A JPEG file of the same size, 4:2:0 or 4:4:4.
    """
    linear = _blur(np.asarray((picture / 255) ** 2.2, np.float32), rng.uniform(*BLUR))
    raw = _mosaic(linear)
    noise = np.sqrt(raw * np.float32(rng.uniform(*SHOT)) + np.float32(READ**2))
    raw = np.clip(raw + noise * rng.standard_normal(raw.shape, np.float32), 0, 1)
    developed = np.clip(_demosaic(raw), 0, 1) ** np.float32(1 / 2.2)
    pixels = np.rint(developed * 255).astype(np.uint8)
    chain = f"jpeg:{rng.integers(*QUALITY)}:{('420', '444')[rng.integers(2)]}"
    return perturb.encode(np.ascontiguousarray(pixels), chain)


def _blur(linear: npt.NDArray[np.float32], sigma: float) -> npt.NDArray[np.float32]:
    """A 3 x 3 Gaussian, edges repeated."""
    side = float(np.exp(-0.5 / sigma**2))
    for axis in (0, 1):
        padded = np.pad(linear, [(1, 1) if axis == a else (0, 0) for a in range(3)], mode="edge")
        before, after = np.delete(padded, (-1, -2), axis), np.delete(padded, (0, 1), axis)
        linear = np.asarray((linear + side * (before + after)) / (1 + 2 * side), np.float32)
    return linear


def _mosaic(linear: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """One colour at each pixel, by the Bayer pattern RGGB."""
    raw = linear[..., 1].copy()
    raw[::2, ::2] = linear[::2, ::2, 0]
    raw[1::2, 1::2] = linear[1::2, 1::2, 2]
    return raw


def _demosaic(raw: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Bilinear interpolation of the RGGB mosaic: known samples stay, the others are means of their neighbours."""
    planes = np.zeros((*raw.shape, 3), np.float32)
    planes[::2, ::2, 0] = raw[::2, ::2]
    planes[::2, 1::2, 1] = raw[::2, 1::2]
    planes[1::2, ::2, 1] = raw[1::2, ::2]
    planes[1::2, 1::2, 2] = raw[1::2, 1::2]
    padded = np.pad(planes, ((1, 1), (1, 1), (0, 0)), mode="reflect")
    centre = padded[1:-1, 1:-1]
    sides = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    corners = padded[:-2, :-2] + padded[:-2, 2:] + padded[2:, :-2] + padded[2:, 2:]
    developed = centre + sides / 2 + corners / 4
    developed[..., 1] = (centre + sides / 4)[..., 1]
    return np.asarray(developed, np.float32)
