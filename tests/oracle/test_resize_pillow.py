"""Perturbations against Pillow and SciPy: resampling and encoders bit for bit, the blur to one level."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from mllmrisk import _core, images, perturb

KERNELS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def noise(width: int, height: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("seed", range(40))
def test_resize(kernel: str, seed: int) -> None:
    width, height, to_width, to_height = map(int, np.random.default_rng(seed).integers(1, 260, 4))
    pixels = noise(width, height, seed)
    expected = np.asarray(Image.fromarray(pixels).resize((to_width, to_height), KERNELS[kernel]))
    np.testing.assert_array_equal(_core.resize(pixels, to_width, to_height, kernel), expected)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("factor", [0.5, 0.75, 1.5])
def test_resize_step(kernel: str, factor: float) -> None:
    pixels = noise(101, 67, 1)
    size = (round(101 * factor), round(67 * factor))
    expected = np.asarray(Image.fromarray(pixels).resize(size, KERNELS[kernel]))
    np.testing.assert_array_equal(perturb.apply(pixels, f"resize:{factor}:{kernel}"), expected)


@pytest.mark.parametrize("sigma", [0.3, 0.5, 1.0, 2.5, 40.0])
@pytest.mark.parametrize("size", [(64, 48), (3, 2), (1, 1)])
def test_blur(sigma: float, size: tuple[int, int]) -> None:
    pixels = noise(*size, 2)
    blurred = ndimage.gaussian_filter(pixels.astype(float), (sigma, sigma, 0), mode="reflect", truncate=4.0)
    difference = np.abs(perturb.apply(pixels, f"blur:{sigma}").astype(float) - blurred)
    # Half a level of rounding, and what 32-bit sums add to it.
    assert difference.max() < 0.5 + 1e-3


@pytest.mark.parametrize("quality", [10, 50, 75, 95, 100])
@pytest.mark.parametrize(("subsampling", "name"), [(0, "444"), (1, "422"), (2, "420")])
def test_jpeg_file(quality: int, subsampling: int, name: str) -> None:
    pixels = images.decode(perturb.encode(noise(75, 50, 3), "blur:1.0"))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    assert perturb.encode(pixels, f"jpeg:{quality}:{name}") == buffer.getvalue()


@pytest.mark.parametrize("quality", [10, 80, 100])
def test_webp_file(quality: int) -> None:
    pixels = perturb.apply(noise(75, 50, 3), "blur:1.0")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=quality)
    with Image.open(buffer) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(perturb.apply(pixels, f"webp:{quality}"), expected)


def test_shift_moves_the_grid() -> None:
    pixels = perturb.apply(noise(80, 64, 4), "blur:2.0")
    buffer = io.BytesIO()
    Image.fromarray(pixels[3:, 3:]).save(buffer, "JPEG", quality=60)
    assert perturb.encode(pixels, "jpeg:60:shift=3") == buffer.getvalue()
