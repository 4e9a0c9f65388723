"""Decoder output to pixels, against the libraries' own conversion and against what it must refuse."""

import numpy as np
import pytest

from mllmrisk.errors import GeneratorError
from mllmrisk.generators.pixels import outcome, to_uint8
from mllmrisk.records import Outcome

#: Values around every rounding edge and beyond both ends.
EDGES = np.concatenate([(np.arange(256)[:, None] + [-0.5, -0.25, 0, 0.25, 0.5]).ravel() / 255, [-3.0, 7.0]])


def as_images(values, layout):
    image = np.resize(values.astype(np.float32), (1, 24, 20, 3))
    return image if layout == "NHWC" else image.transpose(0, 3, 1, 2)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_nearest_is_what_diffusers_does(layout):
    torch = pytest.importorskip("torch")
    from diffusers.image_processor import VaeImageProcessor

    tensor = torch.from_numpy(np.ascontiguousarray(as_images(EDGES, "NCHW")))
    theirs = VaeImageProcessor().postprocess(tensor * 2 - 1, output_type="pil")[0]
    inside = VaeImageProcessor().postprocess(tensor * 2 - 1, output_type="pt")
    (ours,) = to_uint8(inside if layout == "NCHW" else inside.permute(0, 2, 3, 1), layout=layout, rounding="nearest")
    assert np.array_equal(ours, np.asarray(theirs))
    assert ours.dtype == np.uint8


def test_down_is_what_the_authors_of_janus_do():
    decoded = as_images(EDGES * 2 - 1, "NHWC")
    theirs = np.clip((decoded + 1) / 2 * 255, 0, 255).astype(np.uint8)
    (ours,) = to_uint8(decoded, layout="NHWC", rounding="down", mean=[0.5] * 3, std=[0.5] * 3)
    assert np.abs(ours.astype(int) - theirs).max() <= 1  # float32 sums in another order, at exact levels only
    assert (ours != theirs).mean() < 0.2
    off_the_edges = np.abs(((decoded + 1) / 2 * 255) % 1 - 0.5) < 0.4
    assert np.array_equal(ours[off_the_edges[0]], theirs[off_the_edges])


def test_channels_have_their_own_mean_and_std():
    (ours,) = to_uint8(np.zeros((1, 2, 2, 3)), layout="NHWC", rounding="nearest", mean=[0.0, 0.5, 1.0], std=[1, 2, 3])
    assert ours[0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_value_spoils_its_own_image_only(bad):
    images = np.full((3, 4, 4, 3), 0.5)
    images[1, 2, 3, 0] = bad
    first, second, third = to_uint8(images, layout="NHWC", rounding="nearest")
    assert second is None
    assert first is not None
    assert third is not None
    made = outcome(second)
    assert (made.outcome, made.reason, made.image) == (Outcome.FAILED, "not_finite", None)
    assert outcome(first).outcome is Outcome.OK


def test_half_floats_are_widened_first():
    torch = pytest.importorskip("torch")
    half = torch.linspace(0, 1, 4 * 8 * 3, dtype=torch.bfloat16).reshape(1, 4, 8, 3)
    (ours,) = to_uint8(half, layout="NHWC", rounding="nearest")
    (wide,) = to_uint8(half.double().numpy(), layout="NHWC", rounding="nearest")
    assert np.array_equal(ours, wide)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((1, 4, 4, 3), "NCHW"),
        ((1, 3, 4, 4), "NHWC"),
        ((3, 4, 4), "NCHW"),
        ((1, 4, 4, 4), "NHWC"),
        ((0, 4, 4, 3), "NHWC"),
    ],
)
def test_another_shape_is_refused_and_never_guessed(shape, layout):
    with pytest.raises(GeneratorError, match="returned"):
        to_uint8(np.zeros(shape), layout=layout, rounding="nearest")


def test_integers_are_refused():
    with pytest.raises(GeneratorError, match="int64"):
        to_uint8(np.zeros((1, 4, 4, 3), dtype=np.int64), layout="NHWC", rounding="down")


def test_an_image_is_contiguous_whatever_the_layout():
    (image,) = to_uint8(np.zeros((1, 3, 5, 7)), layout="NCHW", rounding="nearest")
    made = outcome(image)
    assert made.image.shape == (5, 7, 3)
    assert made.image.flags.c_contiguous
