"""Leak probes: what tells real from fake without any forensic trace (DESIGN 5.4).

`container` sees format, size, quantisation, metadata; `size` width and height alone; `content` colours of a 16×16
thumbnail; `caption` the prompt's words. Each is fitted and tested exactly as a detector is, on the same splits.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from mllmrisk import images
from mllmrisk.images import Container

#: Changes when a vector changes, so that stored ones are not mixed.
VERSION = 1

PROBES = ("container", "size", "content", "caption")

_FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF")
_MODES = ("grey", "rgb", "palette", "cmyk")
_SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1", "4:0:0")
#: Columns of a container vector that the `size` probe may see: width, height, aspect, pixels.
SIZE_COLUMNS = slice(0, 4)
_THUMBNAIL = 16
_HUES = 12


def container_vector(container: Container, *, with_bytes: bool = True) -> NDArray[np.float32]:
    """(d,) float32: size, format, coding and metadata facts of a file, none of its pixels.

    Args:
        container: what `mllmrisk.probe` says of the file.
        with_bytes: whether the file's length, and bytes per pixel, are among them.
    """
    width, height = float(container.width), float(container.height)
    pixels = width * height
    tables: list[list[float]] = [[float(step) for step in table] for table in container.quantisation[:2]]
    tables += [[0.0] * 64] * (2 - len(tables))
    facts: list[float] = [
        np.log(width),
        np.log(height),
        np.log(width / height),
        np.log(pixels),
        float(width % 8 == 0 and height % 8 == 0),
        float(width == height),
        np.log(container.bytes) if with_bytes else 0.0,
        np.log(container.bytes / pixels) if with_bytes else 0.0,
        *(float(container.format == name) for name in _FORMATS),
        *(float(container.subsampling == name) for name in _SUBSAMPLINGS),
        *(float(container.mode == name) for name in _MODES),
        float(container.quality or 0.0),
        float(container.quality_exact),
        float(container.progressive),
        float(container.lossy),
        float(container.bit_depth),
        float(container.alpha),
        float(container.jfif),
        float(container.adobe),
        float(container.exif),
        float(container.make is not None or container.model is not None),
        float(container.software is not None),
        float(container.icc),
        float(container.xmp),
        float(container.c2pa),
        float(container.ai_source_type),
        float(container.generation_parameters),
        float(len(container.texts)),
        *np.log1p(np.array(tables, dtype=np.float64)).ravel(),
    ]
    return np.array(facts, dtype=np.float32)


def content_vector(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(d,) float32 colour statistics of the 16×16 thumbnail: what an image shows, without how it was made.

    4×4 grid of mean luma and chroma, mean and spread per channel, a hue histogram weighted by saturation.
    """
    small = images.resize(pixels, _THUMBNAIL, _THUMBNAIL, "box").astype(np.float64) / 255.0
    red, green, blue = small[..., 0], small[..., 1], small[..., 2]
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    planes = np.stack([luma, blue - luma, red - luma])
    step = _THUMBNAIL // 4
    grid = planes.reshape(3, 4, step, 4, step).mean(axis=(2, 4))
    high, low = small.max(axis=-1), small.min(axis=-1)
    saturation = high - low
    angle = np.arctan2(np.sqrt(3.0) * (green - blue), 2.0 * red - green - blue)
    hues, _ = np.histogram(angle, bins=_HUES, range=(-np.pi, np.pi), weights=saturation)
    hues = hues / max(float(saturation.sum()), 1e-9)
    facts = [
        *grid.ravel(),
        *planes.std(axis=(1, 2)),
        *small.mean(axis=(0, 1)),
        *small.std(axis=(0, 1)),
        float(saturation.mean()),
        float(saturation.std()),
        float((luma > 0.95).mean()),
        float((luma < 0.05).mean()),
        *hues,
    ]
    return np.array(facts, dtype=np.float32)


def caption_vector(caption: str, width: int = 256) -> NDArray[np.float32]:
    """(width,) float32: hashed words and word pairs of a caption, L2-normalised."""
    from zlib import crc32

    words = caption.lower().split()
    vector = np.zeros(width + 1, dtype=np.float32)
    for token in [*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))]:
        vector[crc32(token.encode()) % width] += 1.0
    vector[:width] /= max(float(np.linalg.norm(vector[:width])), 1.0)
    vector[width] = np.log1p(len(words))
    return vector
