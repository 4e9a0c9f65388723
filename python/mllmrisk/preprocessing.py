"""How an image becomes the input of a network, as data: the keys of an `[input]` table and of `images.prepare`."""

from __future__ import annotations

from typing import Literal

import msgspec

CropMode = Literal["squash", "short", "centre", "pad", "longest", "tiles", "full"]
Interpolation = Literal["nearest", "box", "bilinear", "bicubic", "lanczos"]

#: Crop modes in which an image may be smaller than its row and `padding` says what stands around it.
_PADDED = ("pad", "longest", "tiles")
_PLAIN = ("nearest", "bilinear", "bicubic")


class Preprocessing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The way from pixels to a network's input: size and crop, padding, then `(pixel * scale - mean) / std`.

    Attributes:
        crop_mode: what is kept of an image:
            `squash`: all of it, resized to `size` whatever its proportions.
            `short`: the short side resized to `resize`, proportions kept (the long side rounds down); then `centre`.
            `centre`: the centre, `size` large; a smaller image is padded with `fill` (torchvision's CenterCrop).
            `pad`: as `centre`, but padded as `padding` says and an odd remainder always halved downwards
            (albumentations' PadIfNeeded and CenterCrop).
            `longest`: all of it, as large as fits into `size` with its proportions, the rest padded (for a square
            `size`: the long side to it, as albumentations' LongestMaxSize).
            `tiles`: every tile of `size` at `stride`, row by row, each a row of the result; the last of a row or column
            is moved back inside; a smaller image is padded.
            `full`: the whole image as it is.
        size: (height, width) of a row; None for `full` only.
        resize: short side in pixels, for `short` only; min(size) where None.
        interpolation: the kernel where sizes change.
        antialias: True: Pillow's resampling, bit for bit (torchvision on PIL images). False: OpenCV's `resize` and
            torch's `interpolate(align_corners=False)`, within one level; nearest, bilinear and bicubic only.
        rounding: how `short` and `centre` halve an odd remainder: `even` (half to even, torchvision) or `down`
            (transformers).
        padding: `constant` (`fill`) or `reflect` (mirrored at the outermost pixels, NumPy's `reflect`, OpenCV's
            BORDER_REFLECT_101); `reflect` for `pad`, `longest` and `tiles` only.
        fill: grey level of the padding, 0 to 255, before normalisation.
        stride: step of `tiles` in pixels; min(size) where None.
        channels: order that the network wants.
        layout: (rows, 3, height, width) or (rows, height, width, 3).
        scale: of a sample, before `mean` is taken away.
        mean: in the order of `channels`.
        std: in the order of `channels`.
        minimum: an image with a side below it is an error with code `too_small`.
    """

    crop_mode: CropMode
    size: tuple[int, int] | None = None
    resize: int | None = None
    interpolation: Interpolation = "bicubic"
    antialias: bool = True
    rounding: Literal["even", "down"] = "even"
    padding: Literal["constant", "reflect"] = "constant"
    fill: int = 0
    stride: int | None = None
    channels: Literal["RGB", "BGR"] = "RGB"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    minimum: int = 1

    def __post_init__(self) -> None:
        """Refuses what contradicts itself, so that nothing that is written down is silently not done."""
        if (self.size is None) != (self.crop_mode == "full"):
            raise ValueError("size must be given for every crop_mode but full, which has none")
        if self.resize is not None and self.crop_mode != "short":
            raise ValueError(f"resize goes with crop_mode short, not {self.crop_mode}")
        if self.stride is not None and self.crop_mode != "tiles":
            raise ValueError(f"stride goes with crop_mode tiles, not {self.crop_mode}")
        if self.padding == "reflect" and self.crop_mode not in _PADDED:
            raise ValueError(f"padding reflect goes with crop_mode {', '.join(_PADDED)}, not {self.crop_mode}")
        if not self.antialias and self.interpolation not in _PLAIN:
            raise ValueError(f"antialias = false knows {', '.join(_PLAIN)}, not {self.interpolation}")
        if min(*(self.size or (1, 1)), *(1 if n is None else n for n in (self.resize, self.stride)), self.minimum) < 1:
            raise ValueError("size, resize, stride and minimum must be at least 1")
        if not 0 <= self.fill <= 255:
            raise ValueError(f"fill must be 0 to 255, not {self.fill}")
        if 0.0 in self.std:
            raise ValueError("std must not be 0")
