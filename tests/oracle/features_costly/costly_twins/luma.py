"""Luma as Pillow makes it."""

import numpy as np
from PIL import Image


def luma(image: np.ndarray) -> np.ndarray:
    """8-bit luma, as int64."""
    return np.asarray(Image.fromarray(image).convert("L")).astype(np.int64)
