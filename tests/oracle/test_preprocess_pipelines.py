"""Inputs of networks against the pipelines that their authors run: torchvision, transformers, and formulas in NumPy."""

from __future__ import annotations

import csv
import functools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import fft

from mllmrisk import images, world
from mllmrisk.images import Preprocessing

CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
#: (height, width): odd remainders on either side, one that is all there is, narrow ones, smaller ones.
SIZES = [(301, 400), (400, 303), (224, 224), (229, 224), (40, 300), (97, 61), (15, 500), (640, 222), (1, 1)]
PIL = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@functools.cache
def scene(height: int, width: int) -> np.ndarray:
    drawn = world.draw(world.Scene("tree", "red", "beach"), np.random.default_rng(height * 1000 + width))
    return images.resize(drawn, width, height)


@functools.cache
def picture(height: int, width: int) -> np.ndarray:
    """Half scene, half noise: smooth parts, and every overshoot that a kernel can make."""
    mixed = scene(height, width).copy()
    mixed[: height // 2] = np.random.default_rng(width).integers(0, 256, (height // 2, width, 3))
    return mixed


def levels(pixels: np.ndarray, how: Preprocessing) -> np.ndarray:
    """(h, w, 3) grey levels of the one row that `pixels` gives, taken back out of the normalisation."""
    prepared = images.prepare([pixels], how, threads=1)
    assert prepared.rows.tolist() == [0]
    values = prepared.values[0] if how.layout == "NHWC" else prepared.values[0].transpose(1, 2, 0)
    return (values * np.array(how.std) + np.array(how.mean)) / how.scale


def plain(**keys: object) -> Preprocessing:
    """Without normalisation: the levels themselves."""
    return Preprocessing(layout="NHWC", scale=1.0, **keys)


@pytest.fixture(scope="module")
def transforms():
    return pytest.importorskip("torchvision", reason="torchvision comes with the extra gen").transforms


@pytest.fixture(scope="module")
def transformers():
    pytest.importorskip("torchvision", reason="torchvision comes with the extra gen")
    return pytest.importorskip("transformers", reason="transformers comes with the extra gen")


class TestTorchvision:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize(("resize", "crop"), [(224, 224), (96, 81), (60, 80)])
    @pytest.mark.parametrize("kernel", ["nearest", "bilinear", "bicubic", "lanczos"])
    def test_short_side_and_centre(self, transforms, size, resize, crop, kernel):
        if min(size) == 1 and kernel == "nearest":
            resize = 3
        theirs = transforms.Compose(
            [
                transforms.Resize(resize, getattr(transforms.InterpolationMode, kernel.upper())),
                transforms.CenterCrop(crop),
                transforms.ToTensor(),
                transforms.Normalize(**CLIP),
            ]
        )
        how = Preprocessing(crop_mode="short", size=(crop, crop), resize=resize, interpolation=kernel, **CLIP)
        pixels = picture(*size)
        expected = theirs(Image.fromarray(pixels)).numpy()
        # One level is 0.0145 here: equal levels, whatever order the floats are rounded in.
        np.testing.assert_allclose(images.prepare([pixels], how).values[0], expected, atol=2e-6)

    @pytest.mark.parametrize("size", SIZES)
    def test_centre_of_smaller_and_larger_images(self, transforms, size):
        theirs = transforms.Compose(
            [transforms.CenterCrop((224, 99)), transforms.ToTensor(), transforms.Normalize(**IMAGENET)]
        )
        expected = theirs(Image.fromarray(picture(*size))).numpy()
        found = images.prepare([picture(*size)], Preprocessing(crop_mode="centre", size=(224, 99), **IMAGENET))
        np.testing.assert_allclose(found.values[0], expected, atol=2e-6)

    @pytest.mark.parametrize("kernel", PIL)
    @pytest.mark.parametrize("size", SIZES)
    def test_squash(self, transforms, size, kernel):
        mode = getattr(transforms.InterpolationMode, kernel.upper())
        expected = np.asarray(transforms.Resize((70, 120), mode)(Image.fromarray(picture(*size))))
        how = plain(crop_mode="squash", size=(70, 120), interpolation=kernel)
        np.testing.assert_array_equal(levels(picture(*size), how), expected)

    def test_on_real_files(self, transforms, corpus: Path):
        with corpus.open(encoding="utf-8", newline="") as file:
            paths = [corpus.parent / row["path"] for row in csv.DictReader(file) if row["format"] in {"JPEG", "PNG"}]
        paths = sorted(paths)[:: max(1, len(paths) // 24)]
        theirs = transforms.Compose(
            [transforms.Resize(224, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(224)]
        )
        prepared = images.prepare(paths, plain(crop_mode="short", size=(224, 224)))
        assert not prepared.errors
        assert len(prepared.values) >= 20
        for path, values in zip(paths, prepared.values, strict=True):
            with Image.open(path) as image:
                np.testing.assert_array_equal(values, np.asarray(theirs(image.convert("RGB"))), err_msg=str(path))


class TestTransformers:
    """Its processors on Pillow images are met level by level, whatever the picture.

    On tensors (the default) torch resamples with its own fixed point, which itself leaves Pillow by a level here and
    there, so pictures without noise are compared: not one sample in ten thousand may be off by more than a level.
    """

    SIZES = ((301, 400), (400, 303), (229, 224), (97, 61), (500, 333))

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("name", ["CLIPImageProcessor", "SiglipImageProcessor"])
    @pytest.mark.parametrize("backend", ["", "Pil"])
    def test_processors(self, transformers, size, name, backend):
        pixels = picture(*size) if backend else scene(*size)
        expected = getattr(transformers, name + backend)()(pixels, return_tensors="np")["pixel_values"]
        if name == "CLIPImageProcessor":
            how = Preprocessing(crop_mode="short", size=(224, 224), rounding="down", **CLIP)
        else:
            how = Preprocessing(crop_mode="squash", size=(224, 224), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        found = images.prepare([pixels], how).values
        if backend:
            np.testing.assert_allclose(found, expected, atol=2e-6)
            return
        off = np.abs(found - expected) * 255 * np.array(how.std)[:, None, None]
        assert np.mean(off > 1 + 1e-3) < 1e-4
        assert off.max() < 2 + 1e-3


def plain_weights(side: int, to: int, kernel: str) -> np.ndarray:
    """(to, side): what OpenCV's INTER_LINEAR and INTER_CUBIC and torch's interpolate weigh each input pixel with."""
    position = (np.arange(to) + 0.5) * side / to - 0.5
    first = np.floor(position).astype(int)
    t = position - first
    if kernel == "bilinear":
        taps = {0: 1 - t, 1: t}
    else:
        a = -0.75

        def cubic(x):
            return np.where(x <= 1, (a + 2) * x**3 - (a + 3) * x**2 + 1, a * (x**3 - 5 * x**2 + 8 * x - 4))

        taps = {offset: cubic(np.abs(t - offset)) for offset in (-1, 0, 1, 2)}
    weights = np.zeros((to, side))
    for offset, weight in taps.items():
        np.add.at(weights, (np.arange(to), np.clip(first + offset, 0, side - 1)), weight)
    return weights


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("to", [(224, 224), (37, 51), (301, 90)])
@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
def test_without_antialiasing(size, to, kernel):
    down, across = plain_weights(size[0], to[0], kernel), plain_weights(size[1], to[1], kernel)
    exact = np.einsum("yi,ijc,xj->yxc", down, picture(*size).astype(float), across, optimize=True)
    how = plain(crop_mode="squash", size=to, interpolation=kernel, antialias=False)
    # Half a level of rounding, and what 32-bit sums add to it.
    assert np.abs(levels(picture(*size), how) - np.clip(exact, 0, 255)).max() < 0.5 + 1e-3


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(301, 400), (97, 61)])
def test_torchs_interpolate(kernel, size):
    torch = pytest.importorskip("torch", reason="torch comes with the extra gen")
    tensor = torch.from_numpy(picture(*size).copy()).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(tensor, (120, 130), mode=kernel, align_corners=False)
    expected = expected[0].permute(1, 2, 0).clamp(0, 255).round().numpy()
    how = plain(crop_mode="squash", size=(120, 130), interpolation=kernel, antialias=False)
    assert np.abs(levels(picture(*size), how) - expected).max() <= 1


@pytest.mark.parametrize("size", SIZES)
def test_nearest_without_antialiasing_takes_the_corner(size):
    rows, columns = (np.arange(to) * side // to for side, to in zip(size, (77, 130), strict=True))
    how = plain(crop_mode="squash", size=(77, 130), interpolation="nearest", antialias=False)
    np.testing.assert_array_equal(levels(picture(*size), how), picture(*size)[rows][:, columns])


def padded(pixels: np.ndarray, size: tuple[int, int], **how: object) -> np.ndarray:
    """albumentations' PadIfNeeded: the odd pixel comes after."""
    rest = [max(want - side, 0) for side, want in zip(pixels.shape, size, strict=False)]
    return np.pad(pixels, [*((r // 2, r - r // 2) for r in rest), (0, 0)], **how)


PADDINGS = {"reflect": {"mode": "reflect"}, "constant": {"mode": "constant", "constant_values": 9}}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("padding", PADDINGS)
def test_pad(size, padding):
    whole = padded(picture(*size), (225, 130), **PADDINGS[padding])
    top, left = (whole.shape[0] - 225) // 2, (whole.shape[1] - 130) // 2
    how = plain(crop_mode="pad", size=(225, 130), padding=padding, fill=9)
    np.testing.assert_array_equal(levels(picture(*size), how), whole[top : top + 225, left : left + 130])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("antialias", [True, False])
def test_longest(size, padding, antialias):
    ratio = 225 / max(size)
    tall, wide = (max(1, round(side * ratio)) for side in size)
    if antialias:
        inner = np.asarray(Image.fromarray(picture(*size)).resize((wide, tall), PIL["bilinear"]))
    else:
        inner = levels(
            picture(*size), plain(crop_mode="squash", size=(tall, wide), interpolation="bilinear", antialias=False)
        )
    how = plain(
        crop_mode="longest", size=(225, 225), padding=padding, fill=9, interpolation="bilinear", antialias=antialias
    )
    np.testing.assert_array_equal(levels(picture(*size), how), padded(inner, (225, 225), **PADDINGS[padding]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stride", [None, 50, 100, 300])
def test_tiles(size, stride):
    whole = padded(picture(*size), (100, 100), mode="reflect")

    def starts(side):
        return [*range(0, side - 100, stride or 100), side - 100]

    expected = [whole[y : y + 100, x : x + 100] for y in starts(whole.shape[0]) for x in starts(whole.shape[1])]
    found = images.prepare(
        [picture(*size)], plain(crop_mode="tiles", size=(100, 100), stride=stride, padding="reflect")
    )
    np.testing.assert_array_equal(found.values, expected)


def aide_grades(pixels: np.ndarray) -> dict[tuple[int, int], float]:
    """Grade of each window by its (top, left), as in the paper's section 4.1 and its code."""
    order = np.add.outer(np.arange(32), np.arange(32))
    bands = [(order >= 64 * k / 6) & (order <= 64 * (k + 1) / 6) for k in range(6)]
    grades = {}
    for top in range(0, pixels.shape[0] - 31, 16):
        for left in range(0, pixels.shape[1] - 31, 16):
            window = pixels[top : top + 32, left : left + 32] / 255
            logs = np.log(np.abs(fft.dctn(window, axes=(0, 1), norm="ortho")) + 1).sum(axis=2)
            grades[top, left] = sum(2**k * logs[band].sum() / band.sum() for k, band in enumerate(bands))
    return grades


def window_of(values: np.ndarray) -> np.ndarray:
    """The 32 x 32 window that one patch (3, 256, 256) was enlarged from."""
    normal = values.transpose(1, 2, 0) * np.array(IMAGENET["std"]) + np.array(IMAGENET["mean"])
    back = np.linalg.pinv(plain_weights(32, 256, "bilinear"))
    return np.einsum("iy,yxc,jx->ijc", back, normal, back, optimize=True)


@pytest.mark.parametrize("size", [(301, 400), (97, 61), (48, 32), (32, 47)])
def test_the_patches_of_aide(size):
    pixels = picture(*size)
    grades = aide_grades(pixels)
    ranked = sorted(grades.values())
    last = len(ranked) - 1
    found = images.patches([pixels]).values
    assert found.shape == (1, 4, 3, 256, 256)
    for values, rank in zip(found[0], [0, last, min(1, last), max(last - 1, 0)], strict=True):
        window = np.rint(window_of(values) * 255).astype(int)
        places = [(y, x) for y, x in grades if (pixels[y : y + 32, x : x + 32] == window).all()]
        assert any(grades[place] == pytest.approx(ranked[rank], rel=1e-5) for place in places)
        weights = plain_weights(32, 256, "bilinear")
        enlarged = np.einsum("yi,ijc,xj->cyx", weights, window / 255, weights, optimize=True)
        mean, std = (np.array(IMAGENET[key])[:, None, None] for key in ("mean", "std"))
        np.testing.assert_allclose(values, (enlarged - mean) / std, atol=2e-6)


def test_the_patches_of_aide_are_enlarged_as_torch_does():
    torch = pytest.importorskip("torch", reason="torch comes with the extra gen")
    pixels = np.ascontiguousarray(picture(301, 400)[140:172, :32])
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    expected = torch.nn.functional.interpolate(tensor, (256, 256), mode="bilinear", antialias=True)[0].numpy()
    mean, std = (np.array(IMAGENET[key], np.float32)[:, None, None] for key in ("mean", "std"))
    found = images.patches([pixels]).values[0]
    np.testing.assert_allclose(found, np.stack([(expected - mean) / std] * 4), atol=3e-6)
