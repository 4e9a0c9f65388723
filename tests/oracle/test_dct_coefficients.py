"""DCT coefficients of JPEG files against what libjpeg makes of them: its grey and YCbCr samples, by Pillow."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import fft

from mllmrisk import images
from mllmrisk.errors import ImageError

SIZES = [(1, 1), (8, 8), (17, 33), (64, 40), (123, 77)]


def picture(width: int, height: int, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(width)
    y, x = np.mgrid[:height, :width]
    waves = [120 + 90 * np.sin(x / (5 + c) + c) * np.cos(y / (7 - c)) for c in range(channels)]
    noisy = np.stack(waves, axis=-1) + rng.normal(0, 12, (height, width, channels))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def jpeg(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def samples(component: images.Coefficients, width: int, height: int) -> np.ndarray:
    """The component's samples by the definition of JPEG, in floating point."""
    blocks = fft.idctn(component.values.astype(np.float64) * component.quantisation, axes=(2, 3), norm="ortho")
    rows, columns = component.values.shape[:2]
    plane = blocks.transpose(0, 2, 1, 3).reshape(rows * 8, columns * 8)[:height, :width]
    return np.clip(np.rint(plane + 128), 0, 255)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("options", [{"quality": 90}, {"quality": 40, "progressive": True}], ids=str)
def test_luma_and_chroma_are_those_that_libjpeg_decodes(size: tuple[int, int], options: dict[str, Any]) -> None:
    data = jpeg(Image.fromarray(picture(*size)), subsampling=0, **options)
    components = images.dct_coefficients(data)
    with Image.open(io.BytesIO(data)) as image:
        image.draft("YCbCr", image.size)
        assert image.mode == "YCbCr"
        expected = np.asarray(image).astype(float)
    assert len(components) == 3
    for k, component in enumerate(components):
        assert component.sampling == (1, 1)
        assert component.values.shape == (-(-size[1] // 8), -(-size[0] // 8), 8, 8)
        # The integer IDCT of libjpeg is within one level of the exact one.
        assert np.abs(samples(component, *size) - expected[..., k]).max() <= 1


@pytest.mark.parametrize(("subsampling", "sampling"), [(0, (1, 1)), (1, (2, 1)), (2, (2, 2))])
@pytest.mark.parametrize("size", SIZES)
def test_tables_and_layout_are_those_of_the_header(
    size: tuple[int, int], subsampling: int, sampling: tuple[int, int]
) -> None:
    data = jpeg(Image.fromarray(picture(*size)), quality=83, subsampling=subsampling)
    luma, *chroma = images.dct_coefficients(data)
    tables = images.probe(data).quantisation
    assert luma.quantisation.tolist() == np.reshape(tables[0], (8, 8)).tolist()
    assert luma.sampling == sampling
    with Image.open(io.BytesIO(data)) as image:
        image.draft("L", image.size)
        assert np.abs(samples(luma, *size) - np.asarray(image)).max() <= 1
    for component in chroma:
        width, height = -(-size[0] // sampling[0]), -(-size[1] // sampling[1])
        assert component.quantisation.tolist() == np.reshape(tables[1], (8, 8)).tolist()
        assert component.sampling == (1, 1)
        assert component.values.shape == (-(-height // 8), -(-width // 8), 8, 8)
        assert component.values.dtype == np.int16
        assert component.quantisation.dtype == np.uint16


def test_grey_and_cmyk() -> None:
    grey = jpeg(Image.fromarray(picture(50, 30)[..., 0]), quality=70)
    (luma,) = images.dct_coefficients(grey)
    assert np.abs(samples(luma, 50, 30) - images.decode(grey)[..., 0]).max() <= 1
    cmyk = jpeg(Image.frombytes("CMYK", (50, 30), picture(50, 30, channels=4).tobytes()))
    assert len(images.dct_coefficients(cmyk)) == 4


@pytest.mark.parametrize("subsampling", [0, 2])
def test_scans_and_restarts_change_no_coefficient(subsampling: int) -> None:
    image = Image.fromarray(picture(123, 77))
    plain = images.dct_coefficients(jpeg(image, quality=90, subsampling=subsampling))
    for options in ({"progressive": True}, {"restart_marker_blocks": 3}, {"optimize": True}):
        other = images.dct_coefficients(jpeg(image, quality=90, subsampling=subsampling, **options))
        for a, b in zip(plain, other, strict=True):
            np.testing.assert_array_equal(a.values, b.values)


@pytest.mark.parametrize("progressive", [False, True])
def test_what_is_missing_is_an_error(progressive: bool) -> None:
    data = jpeg(Image.fromarray(picture(80, 60)), progressive=progressive)
    whole = images.dct_coefficients(data)
    for a, b in zip(whole, images.dct_coefficients(data[:-2]), strict=True):
        np.testing.assert_array_equal(a.values, b.values)
    for size in range(0, len(data) - 8, 50):
        with pytest.raises(ImageError) as caught:
            images.dct_coefficients(data[:size])
        with pytest.raises(ImageError) as decoded:
            images.decode(data[:size])
        assert caught.value.code == decoded.value.code
        assert caught.value.code in {"empty", "not_an_image", "truncated", "corrupt"}


def test_limits_and_other_formats() -> None:
    image = Image.fromarray(picture(80, 60))
    data = jpeg(image, subsampling=0)
    coefficients = 3 * 10 * 8 * 64
    assert len(images.dct_coefficients(data, limits=images.Limits(memory=4 * coefficients + (1 << 20)))) == 3
    for limits in (
        images.Limits(memory=4 * coefficients - 1),
        images.Limits(pixels=80 * 60 - 1),
        images.Limits(bytes=9),
    ):
        with pytest.raises(ImageError) as caught:
            images.dct_coefficients(data, limits=limits)
        assert caught.value.code == "limit"
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    with pytest.raises(ImageError, match="DCT coefficients") as caught:
        images.dct_coefficients(buffer.getvalue())
    assert caught.value.code == "unsupported"
