"""What the tests of the command line share."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]


class Result(NamedTuple):
    """How a call ended."""

    code: int
    out: str
    err: str


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (96, 80)) -> Path:
    """Writes a textured picture; equal seeds give equal pixels."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.int16)
    noisy = np.clip(pixels + random.integers(-8, 9, pixels.shape), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noisy).save(path)
    return path
