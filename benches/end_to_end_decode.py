"""Decoding against Pillow, OpenCV and simplejpeg: whole Python calls, one process, one thread, interleaved, checked.

Every baseline ends in the same thing: a `(height, width, 3)` uint8 RGB array of its own.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import simplejpeg
from PIL import Image
from sklearn.datasets import load_sample_image

from mllmrisk import images, perturb

sys.path.insert(0, str(Path(__file__).parent))

import comparison
from comparison import Row

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 31
SIDES = (512, 1024)
FORMATS = ("jpeg:90", "png", "webp:90")


def interleaved(*calls: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """Median CPU milliseconds of each call, taken in turn."""
    return comparison.interleaved(*calls, rounds=rounds)


def photograph(side: int) -> np.ndarray:
    """(side, side, 3) uint8 of real photographs: scikit-learn's two samples (CC-BY 2.0), tiled with their mirrors."""
    china, flower = load_sample_image("china.jpg"), load_sample_image("flower.jpg")
    tile = np.concatenate([china, flower])
    row = np.concatenate([tile, tile[:, ::-1]], axis=1)
    return np.concatenate([row, row[::-1]])[:side, :side].copy()


def png_by_pillow(side: int) -> bytes:
    """A PNG as most of them are written: libpng's filters, zlib at its default level."""
    buffer = io.BytesIO()
    Image.fromarray(photograph(side)).save(buffer, "PNG")
    return buffer.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def by_opencv(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def decode_rows(side: int, encoding: str) -> list[Row]:
    data = png_by_pillow(side) if encoding == "png" else perturb.encode(photograph(side), encoding)
    baselines = {"Pillow": by_pillow, "OpenCV": by_opencv}
    if encoding.startswith("jpeg"):
        baselines["simplejpeg"] = simplejpeg.decode_jpeg
    pixels = images.decode(data)
    for name, baseline in baselines.items():
        np.testing.assert_array_equal(baseline(data), pixels, err_msg=f"{name}, {encoding}, {side}")
    calls = [lambda: images.decode(data), *(lambda f=f: f(data) for f in baselines.values())]
    ours, *others = interleaved(*calls)
    work = f"decode {encoding} {side}x{side}"
    return [Row(work, name, ours, other) for name, other in zip(baselines, others, strict=True)]


def resize_rows() -> list[Row]:
    pixels = photograph(1024)
    image = Image.fromarray(pixels)
    chains = {"bilinear": Image.Resampling.BILINEAR, "lanczos": Image.Resampling.LANCZOS}
    made = []
    for kernel, pillow in chains.items():
        chain = f"resize:0.5:{kernel}"

        def baseline(pillow: Image.Resampling = pillow) -> np.ndarray:
            return np.array(image.resize((512, 512), pillow))

        np.testing.assert_array_equal(perturb.apply(pixels, chain), baseline())
        ours, other = interleaved(lambda chain=chain: perturb.apply(pixels, chain), baseline)
        made.append(Row(f"{chain} of 1024x1024", "Pillow", ours, other))
    return made


def rows() -> list[Row]:
    """Every comparison; raises where the results are not the same."""
    cv2.setNumThreads(1)
    decoded = [row for encoding in FORMATS for side in SIDES for row in decode_rows(side, encoding)]
    return [*decoded, *resize_rows()]


if __name__ == "__main__":
    comparison.say(rows())
