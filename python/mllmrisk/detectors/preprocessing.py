"""Stands in for `mllmrisk.images.Preprocessing` until that is merged; no one but `recipe.py` imports it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk import images, perturb
from mllmrisk.errors import ImageError


class Preprocessing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How pixels become a model's input."""

    crop_mode: Literal["squash", "short", "centre", "pad", "longest", "tiles", "full"]
    size: tuple[int, int] | None = None
    resize: int | None = None
    interpolation: Literal["nearest", "box", "bilinear", "bicubic", "lanczos"] = "bicubic"
    antialias: bool = True
    padding: Literal["constant", "reflect"] = "constant"
    fill: int = 0
    stride: int | None = None
    channels: Literal["RGB", "BGR"] = "RGB"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    minimum: int = 1


class Prepared(NamedTuple):
    """As the contract says."""

    values: NDArray[np.float32]
    rows: NDArray[np.int64]
    errors: dict[int, ImageError]


def prepare(
    sources: Sequence[Any],
    how: Preprocessing,
    *,
    chains: Sequence[str | None] | None = None,
    threads: int | None = None,
    seed: int = 0,
) -> Prepared:
    """Squash and short and centre and tiles only, slowly."""
    values, rows, errors = [], [], {}
    for i, source in enumerate(sources):
        try:
            pixels = source if isinstance(source, np.ndarray) else images.decode(source)
        except ImageError as wrong:
            errors[i] = wrong
            continue
        if chains is not None and chains[i] is not None:
            pixels = perturb.apply(pixels, str(chains[i]), seed=seed)
        if min(pixels.shape[:2]) < how.minimum:
            errors[i] = ImageError("too small", "too_small")
            continue
        for part in _parts(pixels, how):
            plain = part[:, :, ::-1] if how.channels == "BGR" else part
            value = (plain * np.float32(how.scale) - np.array(how.mean, np.float32)) / np.array(how.std, np.float32)
            values.append(value if how.layout == "NHWC" else value.transpose(2, 0, 1))
            rows.append(i)
    return Prepared(np.ascontiguousarray(values, np.float32), np.array(rows, np.int64), errors)


def _parts(pixels: Any, how: Preprocessing) -> list[Any]:
    if how.crop_mode == "full":
        return [pixels]
    assert how.size is not None
    h, w = how.size
    if how.crop_mode == "squash":
        return [images.resize(pixels, w, h, how.interpolation)]
    if how.crop_mode == "tiles":
        tall, wide = pixels.shape[:2]
        tops = [*range(0, tall - h, how.stride or h), tall - h]
        lefts = [*range(0, wide - w, how.stride or w), wide - w]
        return [pixels[t : t + h, x : x + w] for t in tops for x in lefts]
    if how.crop_mode == "short":
        short = how.resize or min(h, w)
        tall, wide = pixels.shape[:2]
        size = (short, short * wide // tall) if tall < wide else (short * tall // wide, short)
        pixels = images.resize(pixels, size[1], size[0], how.interpolation)
    top, left = round((pixels.shape[0] - h) / 2), round((pixels.shape[1] - w) / 2)
    return [pixels[top : top + h, left : left + w]]
