"""Each family of the `default` set, and `ternary_residual`, against its NumPy/SciPy twin."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from twins import COSTLY, TWINS, default_vector

from made import photograph
from mllmrisk import features

RTOL, ATOL = 1e-4, 2e-5
CORPUS = Path(__file__).resolve().parents[4] / "shared" / "corpus"


def jpeg(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file))


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)


def doubled() -> np.ndarray:
    return photograph(64, 80, 4).repeat(2, 0).repeat(2, 1)


def primaries() -> np.ndarray:
    """Single pixels and blocks of each corner of the RGB cube on each other: the largest steps of luma and chroma."""
    corner = np.array([[c >> k & 1 for k in range(3)] for c in range(8)], dtype=np.uint8) * 255
    ground, spot = corner[:, None].repeat(8, 1), corner[None].repeat(8, 0)
    image = ground.repeat(24, 0).repeat(24, 1)
    for side, at in ((2, 4), (4, 12), (1, 21)):
        for dy in range(side):
            for dx in range(side):
                image[at + dy :: 24, at + dx :: 24] = spot
    return image


MADE: dict[str, Callable[[], np.ndarray]] = {
    "photograph": lambda: photograph(256, 320, 1),
    "grey": lambda: np.repeat(photograph(160, 128, 2)[..., :1], 3, axis=2),
    "jpeg": lambda: jpeg(photograph(240, 200, 3)),
    "doubled": doubled,
    "noise": lambda: noise(130, 170),
    "constant": lambda: np.full((96, 72, 3), 137, np.uint8),
    "black": lambda: np.zeros((64, 64, 3), np.uint8),
    "white": lambda: np.full((70, 64, 3), 255, np.uint8),
    "saturated": lambda: np.where(noise(100, 100) > 127, 255, 0).astype(np.uint8),
    "ramp": lambda: np.repeat(np.tile(np.arange(128, dtype=np.uint8), (90, 1))[..., None], 3, axis=2),
    "primaries": primaries,
    "smallest": lambda: photograph(64, 64, 6),
    "odd": lambda: photograph(67, 101, 7),
    "wide": lambda: photograph(65, 1500, 8),
    "tall": lambda: photograph(1031, 71, 9),
}


def corpus_files() -> list[object]:
    if not CORPUS.is_dir():
        reason = "the corpus of real images is not beside this checkout (../shared/corpus)"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason))]
    kinds = ("real", "diffusion", "mllm")
    return [p for kind in kinds for p in sorted((CORPUS / kind).iterdir())[::37] if p.stat().st_size < 600_000]


def check(image: np.ndarray, family: str) -> None:
    found = features.extract([image], family, threads=1)
    assert not found.errors
    np.testing.assert_allclose(found.values[0], (TWINS | COSTLY)[family](image), rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize("family", TWINS | COSTLY)
@pytest.mark.parametrize("kind", MADE)
def test_family_equals_its_twin(kind: str, family: str) -> None:
    check(MADE[kind](), family)


@pytest.mark.parametrize("path", corpus_files(), ids=lambda path: getattr(path, "name", None))
def test_default_set_equals_its_twins_on_real_files(path: Path) -> None:
    found = features.extract([path], threads=1)
    assert not found.errors
    image = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_allclose(found.values[0], default_vector(image), rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize("family", COSTLY)
@pytest.mark.parametrize("path", corpus_files(), ids=lambda path: getattr(path, "name", None))
def test_costly_family_equals_its_twin_on_real_files(path: Path, family: str) -> None:
    check(np.asarray(Image.open(path).convert("RGB")), family)


def test_every_default_family_has_a_twin() -> None:
    assert [family.name for family in features.describe() if family.set == "default"] == list(TWINS)
