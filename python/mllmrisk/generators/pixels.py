"""What a model's decoder returns → pixels.

The libraries do this in ways that change between versions and that hide failures: a decoder that overflows gives
NaN, which their conversion to uint8 turns into a black image. Here the layout is stated and checked, never guessed,
and what is not finite is told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mllmrisk.errors import GeneratorError
from mllmrisk.generators.base import Made
from mllmrisk.records import Outcome

_CHANNELS = 3


def to_uint8(
    images: Any,
    *,
    layout: Literal["NCHW", "NHWC"],
    rounding: Literal["nearest", "down"],
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
) -> list[NDArray[np.uint8] | None]:
    """`(x * std + mean) * 255`, clipped, as (height, width, 3) uint8 RGB, one per image.

    Args:
        images: (n, 3, height, width) or (n, height, width, 3) torch tensor or NumPy array of floats, on any device;
            16-bit floats are widened before anything is computed.
        layout: which of the two it is.
        rounding: `nearest` (half to even) as diffusers does, `down` as transformers and the authors of Janus and
            Emu3 do. A level's difference is a trace that a detector can see.
        mean: per channel, what was taken off before the model saw a pixel in [0, 1].
        std: per channel, what it was divided by then.

    Returns:
        None in place of an image with a value that is not finite.

    Raises:
        GeneratorError: another shape or an integer type: this version of the library is not understood.
    """
    array = np.asarray(images.detach().float().cpu().numpy() if hasattr(images, "detach") else images)
    channel_axis = 1 if layout == "NCHW" else 3
    if array.ndim != 4 or array.shape[channel_axis] != _CHANNELS or 0 in array.shape:
        raise GeneratorError(f"the decoder returned {array.shape}, not {layout} with {_CHANNELS} channels")
    if array.dtype.kind != "f":
        raise GeneratorError(f"the decoder returned {array.dtype}, not floats")
    if layout == "NCHW":
        array = array.transpose(0, 2, 3, 1)
    finite = np.isfinite(array).all(axis=(1, 2, 3))
    return [
        _levels(image.astype(np.float32), rounding, mean, std) if good else None
        for image, good in zip(array, finite, strict=True)
    ]


def _levels(
    image: NDArray[np.float32], rounding: Literal["nearest", "down"], mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.uint8]:
    scaled = image * np.asarray(std, np.float32) + np.asarray(mean, np.float32)
    levels = np.clip(scaled * np.float32(255), 0, 255)
    rounded: NDArray[np.uint8] = (np.rint(levels) if rounding == "nearest" else levels).astype(np.uint8)
    return rounded


def outcome(image: NDArray[np.uint8] | None, facts: dict[str, str] | None = None) -> Made:
    """An image as what came of a request; none at all is `failed`, `not_finite`."""
    if image is None:
        return Made(Outcome.FAILED, reason="not_finite", facts=facts)
    return Made(Outcome.OK, np.ascontiguousarray(image), facts=facts)
