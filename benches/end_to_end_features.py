"""Features against what people use: the whole `default` set against its NumPy/SciPy twin, one image, one thread each.

Results are checked equal before they are timed; each figure is the least of its runs, contenders in turn.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "oracle" / "features"))

from twins import default_vector, spectrum

from mllmrisk import _core, features

SIDES = (512, 1024)


class Row(NamedTuple):
    """One comparison: milliseconds of ours and of the baseline, at one image size."""

    what: str
    side: int
    ours_ms: float
    baseline: str
    baseline_ms: float


def photograph(side: int) -> bytes:
    """A JPEG of quality 90 with shading, edges and noise."""
    rng = np.random.default_rng(side)
    y, x = np.mgrid[:side, :side].astype(float)
    shade = 110 + 60 * np.sin(x / 37 + np.arange(3)[:, None, None]) * np.cos(y / 53)
    image = shade + 25 * np.sign(np.sin(x / 20) * np.sin(y / 15)) + rng.normal(0, 4, (3, side, side))
    file = io.BytesIO()
    Image.fromarray(np.clip(image, 0, 255).astype(np.uint8).transpose(1, 2, 0)).save(file, "JPEG", quality=90)
    return file.getvalue()


def decoded(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


def azimuthal_average(jpeg: bytes) -> np.ndarray:
    """The usual radial spectrum: decode in Pillow, one transform of the whole grey image, mean log power by radius."""
    grey = np.asarray(Image.open(io.BytesIO(jpeg)).convert("L"), dtype=np.float64)
    power = 20 * np.log(np.abs(np.fft.fftshift(np.fft.fft2(grey))) + 1e-8)
    y, x = np.indices(grey.shape)
    radius = np.hypot(y - grey.shape[0] // 2, x - grey.shape[1] // 2).astype(int).ravel()
    return np.bincount(radius, power.ravel()) / np.bincount(radius)


def least_ms(contenders: list[Callable[[], object]], runs: int) -> list[float]:
    least = [float("inf")] * len(contenders)
    for _ in range(runs):
        for i, contender in enumerate(contenders):
            start = time.perf_counter()
            contender()
            least[i] = min(least[i], (time.perf_counter() - start) * 1e3)
    return least


def rows() -> list[Row]:
    """Times every comparison at every size."""
    made = []
    for side in SIDES:
        jpeg = photograph(side)
        image = decoded(jpeg)
        ours = features.extract([image], threads=1).values[0]
        np.testing.assert_allclose(ours, default_vector(image), rtol=1e-4, atol=2e-5)
        radial = features.extract([jpeg], "radial", threads=1).values[0]
        np.testing.assert_allclose(radial, spectrum.radial(image), rtol=1e-4, atol=2e-5)
        times = least_ms(
            [
                lambda i=image: _core.extract([i], ["default"], 1),
                lambda i=image: default_vector(i),
                lambda j=jpeg: _core.extract([j], ["radial"], 1),
                lambda j=jpeg: spectrum.radial(decoded(j)),
                lambda j=jpeg: azimuthal_average(j),
                lambda j=jpeg: _core.extract([j], ["default"], 1),
                lambda j=jpeg: decoded(j),
            ],
            runs=15,
        )
        made += [
            Row("default set, from pixels", side, times[0], "NumPy/SciPy twin (equal)", times[1]),
            Row("decode + radial spectra", side, times[2], "Pillow + NumPy twin (equal)", times[3]),
            Row(
                "decode + radial spectra", side, times[2], "Pillow + NumPy whole-image FFT (another formula)", times[4]
            ),
            Row("decode + default set", side, times[5], "Pillow decode alone", times[6]),
        ]
    return made


if __name__ == "__main__":
    for row in rows():
        print(
            f"{row.what:26s} {row.side:5d} {row.ours_ms:8.2f} ms {row.baseline_ms / row.ours_ms:6.1f}x {row.baseline}"
        )
