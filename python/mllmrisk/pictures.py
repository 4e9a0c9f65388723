"""Generated pictures with known answers: a judge or a detector is asked about them before it is trusted.

They are made by integer and correctly rounded arithmetic, so that they are the same bytes everywhere, and no image
has to travel with a model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def ellipse() -> Pixels:
    """A shaded, skin-coloured ellipse on a dark ground, (240, 320, 3): moves with channel order, scale and crop."""
    y, x = np.mgrid[0:240, 0:320]
    r2 = ((x - 160) / 90) ** 2 + ((y - 120) / 90) ** 2
    shade = 0.5 + 0.5 * np.clip(1 - r2 / 2, 0, 1)
    skin = np.array([224, 172, 140]) * shade[:, :, None]
    return np.where(r2[:, :, None] < 1, skin, np.array([60, 40, 40])).astype(np.uint8)


def gradient() -> Pixels:
    """Red grows to the right, green downwards, blue is a fine pattern, (240, 320, 3)."""
    y, x = np.mgrid[0:240, 0:320]
    return np.stack([x * 255 // 319, y * 255 // 239, (x ^ y) & 255], axis=2).astype(np.uint8)


def blocks() -> Pixels:
    """Flat blocks of 16 px in hashed colours, (512, 640, 3): edges, no noise; larger than any model's input."""
    return _hashed(32, 40).repeat(16, axis=0).repeat(16, axis=1)


def grain() -> Pixels:
    """A soft slope under hashed noise, (512, 640, 3): what a detector that looks at residuals looks at."""
    y, x = np.mgrid[0:512, 0:640]
    slope = 64 + (x + y) * 96 // 1151
    picture: Pixels = (slope[:, :, None] + _hashed(512, 640) // 4).astype(np.uint8)
    return picture


def _hashed(height: int, width: int) -> Pixels:
    """(height, width, 3) bytes that look random: a multiplicative hash of each one's position (Knuth, 6.4)."""
    position = np.arange(height * width * 3, dtype=np.uint32)
    mixed = position * np.uint32(2654435761)
    mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(2246822519)
    top: Pixels = (mixed >> np.uint32(24)).astype(np.uint8)
    return top.reshape(height, width, 3)


#: By the name that a probe gives.
PICTURES = {"ellipse": ellipse, "gradient": gradient, "blocks": blocks, "grain": grain}
