"""The face of perturbations: texts, names, seeds, errors. What the steps do to pixels is tested against Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mllmrisk import images, perturb
from mllmrisk.errors import UsageError

PIXELS = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)

# The names that suites and records use (DESIGN 5.3, the laundering experiment).
CONTRACT = [
    "native", "recompressed", "social", "screenshot", "jpeg:95", "jpeg:85", "jpeg:75", "jpeg:50", "webp:80",
    "resize:0.5", "resize:0.75", "crop:256", "blur:1.0",
]  # fmt: skip


@pytest.mark.parametrize("chain", CONTRACT)
def test_contract_names_are_canonical_and_work(chain: str) -> None:
    assert perturb.canonical(chain) == chain
    pixels = perturb.apply(PIXELS, chain)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(images.decode(perturb.encode(PIXELS, chain)), pixels)


def test_describe_covers_every_step() -> None:
    steps = {about.name: about for about in perturb.describe()}
    assert {"jpeg", "webp", "png", "resize", "shrink", "fit", "crop", "cropat", "blur", "noise"} <= steps.keys()
    assert {chain.partition(":")[0] for chain in CONTRACT} <= steps.keys()
    for about in steps.values():
        assert about.grammar.startswith(about.name)
        assert about.what
        if about.chain:
            expanded = perturb.apply(PIXELS, about.chain)
            np.testing.assert_array_equal(perturb.apply(PIXELS, about.name), expanded)


@pytest.mark.parametrize(
    ("name", "longest", "quality"),
    [("facebook", 2048, 85), ("signal", 1600, 70), ("signal-high", 4096, 75), ("telegram", 1280, 87)],
)
def test_a_platform_s_chain_bounds_the_side_and_encodes_as_its_source_says(
    name: str, longest: int, quality: int
) -> None:
    for width in (longest - 1, longest + 400):
        facts = images.probe(perturb.encode(np.zeros((40, width, 3), np.uint8), name))
        assert facts.width == min(width, longest)
        assert (facts.format, facts.quality, facts.subsampling) == ("JPEG", quality, "4:2:0")


def test_native_changes_nothing() -> None:
    np.testing.assert_array_equal(perturb.apply(PIXELS, "native"), PIXELS)
    np.testing.assert_array_equal(perturb.apply(PIXELS, "png"), PIXELS)


def test_the_input_is_left_alone_and_need_not_be_contiguous() -> None:
    before = PIXELS.copy()
    turned = perturb.apply(PIXELS[::-1, ::2], "crop:50")
    np.testing.assert_array_equal(turned, PIXELS[::-1, ::2][125:175, 75:125])
    perturb.apply(PIXELS, "noise:20.0")
    np.testing.assert_array_equal(PIXELS, before)


def test_seed() -> None:
    first, again, other = (perturb.apply(PIXELS, "noise:3.0+jpeg:90", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    twice = perturb.apply(np.full_like(PIXELS, 128), "noise:3.0+noise:3.0").astype(float)
    # Two steps draw apart: their variances add.
    assert abs(twice.std() - np.sqrt(2 * 9)) < 0.1


def test_encode_of_a_file_and_of_its_pixels(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(perturb.encode(PIXELS, "native"))
    expected = perturb.encode(PIXELS, "recompressed")
    facts = images.probe(expected)
    assert (facts.format, facts.width, facts.height) == ("JPEG", 256, 256)
    assert (facts.quality, facts.quality_exact, facts.subsampling) == (90, True, "4:2:0")
    for source in (path, str(path), path.read_bytes(), bytearray(path.read_bytes())):
        assert perturb.encode(source, "recompressed") == expected


def test_fit_matches_a_size() -> None:
    for width, height in ((256, 256), (640, 480), (500, 100), (1, 1)):
        assert perturb.apply(PIXELS, f"fit:{width}x{height}").shape == (height, width, 3)


@pytest.mark.parametrize(
    ("chain", "hint"),
    [
        ("jpg:75", "Did you mean `jpeg`?"),
        ("crop:256+jpge:90", "Did you mean `jpeg`?"),
        ("recompresed", "Did you mean `recompressed`?"),
        ("resise:0.5", "Did you mean `resize`?"),
        ("jpeg:101", r"jpeg:QUALITY\[:444\|422\|420\]"),
        ("blur", "blur:SIGMA"),
        ("", "native"),
        ("matched", "the steps are"),
    ],
)
def test_mistyped_chains(chain: str, hint: str) -> None:
    for call in (
        lambda: perturb.canonical(chain),
        lambda: perturb.apply(PIXELS, chain),
        lambda: perturb.encode(PIXELS, chain),
    ):
        with pytest.raises(UsageError, match=hint.replace("?", r"\?") if "mean" in hint else hint):
            call()


@pytest.mark.parametrize(
    "array",
    [PIXELS[..., 0], PIXELS[..., :2], PIXELS.astype(np.float32), np.zeros((0, 4, 3), np.uint8)],
    ids=["grey", "two channels", "float", "empty"],
)
def test_wrong_arrays(array: np.ndarray) -> None:
    with pytest.raises(UsageError):
        perturb.apply(array, "jpeg:75")
    with pytest.raises(UsageError):
        perturb.encode(array, "jpeg:75")
