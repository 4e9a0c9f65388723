"""Each costly family against its NumPy/SciPy twin, and what each is there to see."""

import functools
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from costly_twins import TWINS
from costly_twins.ghost import QUALITIES, block_errors, written_table
from PIL import Image

from made import photograph
from mllmrisk import features

RTOL, ATOL = 1e-4, 2e-5
CORPUS = Path(__file__).resolve().parents[4] / "shared" / "corpus"


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)


def demosaiced(image: np.ndarray) -> np.ndarray:
    """Green kept on a checkerboard, the rest interpolated from its four neighbours: a bilinear camera."""
    green = image[..., 1].astype(float)
    sampled = np.pad(green, 1, mode="reflect")
    around = (sampled[:-2, 1:-1] + sampled[2:, 1:-1] + sampled[1:-1, :-2] + sampled[1:-1, 2:]) / 4
    interpolated = np.add.outer(np.arange(green.shape[0]), np.arange(green.shape[1])) % 2 == 0
    out = image.copy()
    out[..., 1] = np.round(np.where(interpolated, around, green))
    return out


def single_point() -> np.ndarray:
    image = np.zeros((64, 64, 3), np.uint8)
    image[31, 20] = 255
    return image


def stripes() -> np.ndarray:
    return np.broadcast_to((np.arange(128) % 2 * 255).astype(np.uint8)[None, :, None], (80, 128, 3)).copy()


MADE: dict[str, Callable[[], np.ndarray]] = {
    "photograph": lambda: photograph(300, 420, 1),
    "jpeg": lambda: jpeg(photograph(240, 200, 3), 75),
    "demosaiced": lambda: demosaiced(photograph(160, 192, 4)),
    "noise": lambda: noise(130, 170),
    "constant": lambda: np.full((96, 72, 3), 137, np.uint8),
    "black": lambda: np.zeros((64, 64, 3), np.uint8),
    "white": lambda: np.full((70, 64, 3), 255, np.uint8),
    "saturated": lambda: np.where(noise(100, 100) > 127, 255, 0).astype(np.uint8),
    "ramp": lambda: np.repeat(np.tile(np.arange(128, dtype=np.uint8), (90, 1))[..., None], 3, axis=2),
    "stripes": stripes,
    "single_point": single_point,
    "smallest": lambda: photograph(64, 64, 6),
    "odd": lambda: photograph(67, 101, 7),
    "wide": lambda: photograph(65, 1500, 8),
    "tall": lambda: photograph(1031, 71, 9),
}


@functools.cache
def made(kind: str) -> np.ndarray:
    return MADE[kind]()


def corpus_files() -> list[object]:
    if not CORPUS.is_dir():
        reason = "the corpus of real images is not beside this checkout (../shared/corpus)"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason))]
    kinds = ("real", "diffusion", "mllm")
    return [p for kind in kinds for p in sorted((CORPUS / kind).iterdir())[::29] if p.stat().st_size < 600_000]


def values(image: np.ndarray, family: str) -> np.ndarray:
    found = features.extract([image], family, threads=1)
    assert not found.errors
    return found.values[0]


def value(image: np.ndarray, name: str) -> float:
    return float(values(image, name)[0])


@pytest.mark.parametrize("family", TWINS)
@pytest.mark.parametrize("kind", MADE)
def test_family_equals_its_twin(kind: str, family: str) -> None:
    found = values(made(kind), family)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, TWINS[family](made(kind)), rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize("path", corpus_files(), ids=lambda path: getattr(path, "name", "absent"))
def test_families_equal_their_twins_on_real_images(path: Path) -> None:
    image = np.asarray(Image.open(path).convert("RGB"))[:640, :640].copy()
    for family, twin in TWINS.items():
        np.testing.assert_allclose(values(image, family), twin(image), rtol=RTOL, atol=ATOL, err_msg=family)


def test_every_costly_family_has_a_twin() -> None:
    # The pattern families have theirs beside those of the default set.
    patterns = {"ternary", "ternary_residual"}
    assert {family.name for family in features.describe() if family.set == "costly"} == set(TWINS) | patterns


def test_the_default_set_leaves_the_costly_families_out() -> None:
    default, everything = features.names("default"), features.names("all")
    costly = {family.name for family in features.describe() if family.set == "costly"}
    assert list(everything[: len(default)]) == list(default)
    assert {name.split(".")[0] for name in everything[len(default) :]} == costly


@pytest.mark.parametrize("quality", [60, 75, 85, 90])
def test_ghost_finds_the_quality_of_an_earlier_jpeg(quality: int) -> None:
    image = made("photograph")
    assert value(jpeg(image, quality), "ghost.dip_quality") == quality
    assert value(jpeg(image, quality), "ghost.dip_depth") > 3 * value(image, "ghost.dip_depth")


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of real images is not beside this checkout")
def test_ghost_finds_the_quality_that_real_files_were_written_with() -> None:
    tables = {tuple(written_table(quality).ravel()): quality for quality in QUALITIES[1:-1]}
    written = {}
    for path in sorted(CORPUS.glob("*/*.jp*g"))[::3]:
        with Image.open(path) as image:
            quality = tables.get(tuple(image.quantization[0]))
        if quality is not None:
            written[path] = quality
    found = features.extract(written, "ghost.dip_quality", threads=1).values[:, 0]
    assert len(found) > 20
    assert np.mean(found == list(written.values())) > 0.9


def test_ghost_finds_no_quality_where_there_was_no_jpeg() -> None:
    assert value(made("photograph"), "ghost.dip_quality") == 0


@pytest.mark.parametrize("quality", [50, 75, 90])
def test_ghost_error_is_that_of_a_real_jpeg(quality: int) -> None:
    """Rounding the decoded samples adds 1/12 to the mean squared error; no sample of this image is clipped."""
    grey = np.asarray(Image.fromarray(made("photograph")[:296, :416]).convert("L"))
    written = np.mean((jpeg(grey, quality).astype(float) - grey) ** 2)
    expected = np.mean(block_errors(np.repeat(grey[..., None], 3, axis=2), quality))
    assert written == pytest.approx(expected + 1 / 12, rel=0.02)
    assert quality in QUALITIES


def test_ela_sees_a_patch_that_was_not_compressed_with_the_rest() -> None:
    image = made("photograph")
    whole = jpeg(image, 90)
    spliced = whole.copy()
    spliced[64:192, 64:192] = image[64:192, 64:192]
    assert value(spliced, "ela.log_deviation_90") > 1.3 * value(whole, "ela.log_deviation_90")


def test_cfa_em_sees_demosaicing_and_a_resize_destroys_it() -> None:
    image = made("photograph")
    camera = demosaiced(image)
    resized = np.asarray(Image.fromarray(camera).resize((380, 270), Image.Resampling.BICUBIC))
    peaks = {name: value(i, "cfa_em.peak_diagonal") for name, i in [("no", image), ("yes", camera), ("gone", resized)]}
    assert peaks["yes"] > 10 * max(peaks["no"], peaks["gone"])
    weights = values(camera, "cfa_em")[6:]
    np.testing.assert_allclose(weights, [0.25] * 4 + [0.0] * 4, atol=0.03)


def test_aide_ranks_texture_over_flat_ground() -> None:
    image = np.full((128, 160, 3), 90, np.uint8)
    image[32:64, 96:128] = noise(32, 32)
    found = dict(zip(features.names("aide"), values(image, "aide"), strict=True))
    assert found["aide.highest"] > found["aide.second_highest"] == found["aide.lowest"]
    assert found["aide.residual_mean_abs"] > 0


def test_phase_is_blind_to_contrast_and_glcm_is_not() -> None:
    """Doubling every difference leaves the phases alone."""
    image = (photograph(128, 128, 11).mean(axis=2, keepdims=True) // 4).astype(np.uint8).repeat(3, axis=2)
    stronger = image * 2
    whitened = slice(0, 6)
    np.testing.assert_allclose(
        values(image, "phase")[whitened], values(stronger, "phase")[whitened], rtol=1e-3, atol=1e-3
    )
    ratio = value(stronger, "glcm.luma_d1_a0_contrast") / value(image, "glcm.luma_d1_a0_contrast")
    assert ratio == pytest.approx(4, rel=1e-5)


def test_srm30_sees_nothing_in_what_its_kernels_annul() -> None:
    """A plane of constant slope has a first difference and no second one."""
    ramp = made("ramp")
    assert value(ramp, "srm30.first_axial_mean_abs") == pytest.approx(0.5)
    for kernel in ("second_axial", "third_diagonal", "edge3", "square5"):
        assert value(ramp, f"srm30.{kernel}_mean_abs") == 0
        assert value(ramp, f"srm30.{kernel}_pair_0_0") == 1
