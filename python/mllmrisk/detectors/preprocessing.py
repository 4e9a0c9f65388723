"""Stands in for `mllmrisk.images.Preprocessing` until that is merged; no one but `recipe.py` imports it."""

from __future__ import annotations

from typing import Literal

import msgspec


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
