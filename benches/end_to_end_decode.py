"""Decoding against Pillow, OpenCV, simplejpeg and webp: whole Python calls in one process, one thread, interleaved.

Every baseline ends in the same thing: a `(height, width, 3)` uint8 RGB array of its own. The rows of DCT coefficients
have no rival that stops before the pixels: their baseline is our own decode of the same file.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import simplejpeg
import webp
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
#: How many times faster than whom, by format.
GOALS = {("jpeg", "simplejpeg"): 1.0, ("png", "Pillow"): 3.0, ("png", "OpenCV"): 3.0, ("webp", "webp"): 1.0}


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


def by_simplejpeg(path: Path) -> np.ndarray:
    return simplejpeg.decode_jpeg(path.read_bytes())


def by_libwebp(data: bytes) -> np.ndarray:
    """libwebp's own binding on PyPI, through the decoder's plain call."""
    return webp.WebPData.from_buffer(data).decode(webp.WebPColorMode.RGB)


def decode_rows(side: int, encoding: str) -> list[Row]:
    data = png_by_pillow(side) if encoding == "png" else perturb.encode(photograph(side), encoding)
    baselines = {"Pillow": by_pillow, "OpenCV": by_opencv}
    if encoding.startswith("jpeg"):
        baselines["simplejpeg"] = simplejpeg.decode_jpeg
    if encoding.startswith("webp"):
        baselines["webp"] = by_libwebp
    pixels = images.decode(data)
    for name, baseline in baselines.items():
        np.testing.assert_array_equal(baseline(data), pixels, err_msg=f"{name}, {encoding}, {side}")
    calls = [lambda: images.decode(data), *(lambda f=f: f(data) for f in baselines.values())]
    ours, *others = interleaved(*calls)
    work = f"decode {encoding} {side}x{side}"
    kind = encoding.partition(":")[0]
    return [
        Row(work, name, ours, other, GOALS.get((kind, name))) for name, other in zip(baselines, others, strict=True)
    ]


def file_row(side: int) -> Row:
    """A JPEG from its path: reading it is part of the work."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photograph.jpg"
        path.write_bytes(perturb.encode(photograph(side), "jpeg:90"))
        np.testing.assert_array_equal(images.decode(path), by_simplejpeg(path))
        ours, other = interleaved(lambda: images.decode(path), lambda: by_simplejpeg(path))
    return Row(f"decode jpeg:90 file {side}x{side}", "simplejpeg", ours, other, GOALS["jpeg", "simplejpeg"])


def coefficients_row(side: int) -> Row:
    """DCT coefficients against the pixels of the same file; their own DC is checked against the pixels' mean."""
    data = perturb.encode(photograph(side), "jpeg:90")
    luma = images.dct_coefficients(data)[0]
    grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    means = grey.reshape(side // 8, 8, side // 8, 8).mean(axis=(1, 3))
    inside = (means > 40) & (means < 215)  # where no sample is likely to have been clipped
    dc = luma.values[..., 0, 0] * float(luma.quantisation[0, 0]) / 8 + 128
    np.testing.assert_allclose(dc[inside], means[inside], atol=8)
    ours, other = interleaved(lambda: images.dct_coefficients(data), lambda: images.decode(data))
    return Row(f"DCT coefficients jpeg:90 {side}x{side}", "our pixels", ours, other)


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
    return [*decoded, *map(file_row, SIDES), *map(coefficients_row, SIDES), *resize_rows()]


if __name__ == "__main__":
    comparison.say(rows())
