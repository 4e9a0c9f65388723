"""The authors' own way from pixels to a tensor, by Pillow and torchvision: written down apart from the Rust core.

Known answers of an exported detector are measured through this, so that they test the core's preprocessing too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

from mllmrisk.errors import UsageError

if TYPE_CHECKING:
    from mllmrisk.images import Preprocessing

Pixels = NDArray[np.uint8]


def tensors(pictures: Sequence[Pixels], how: Preprocessing) -> Tensor:
    """(m, 3, h, w) or (m, h, w, 3) float32 of (H, W, 3) uint8 pictures; one row each, or one per tile.

    Raises:
        UsageError: a crop mode that has no counterpart here.
    """
    rows = [row for picture in pictures for row in _rows(picture, how)]
    values = torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).float()
    if how.channels == "BGR":
        values = values.flip(1)
    mean, std = torch.tensor(how.mean).view(3, 1, 1), torch.tensor(how.std).view(3, 1, 1)
    values = (values * how.scale - mean) / std
    return values if how.layout == "NCHW" else values.permute(0, 2, 3, 1).contiguous()


def _rows(picture: Pixels, how: Preprocessing) -> list[Pixels]:
    if how.size is None:
        return [picture]
    height, width = how.size
    image = Image.fromarray(picture)
    match how.crop_mode:
        case "squash":
            image = _resized(image, (height, width), how)
        case "short":
            side = how.resize or min(height, width)
            long = int(side * max(image.size) / min(image.size))  # torchvision's Resize(int) cuts the fraction off
            image = _resized(image, (side, long) if image.width >= image.height else (long, side), how)
            image = transforms.center_crop(image, [height, width])
        case "centre":
            image = transforms.center_crop(image, [height, width])
        case "pad":
            image = _padded(image, (height, width), how)
            top, left = (image.height - height) // 2, (image.width - width) // 2  # albumentations rounds down
            image = image.crop((left, top, left + width, top + height))
        case "longest":
            factor = max(height, width) / max(image.size)
            image = _resized(image, (round(image.height * factor), round(image.width * factor)), how)
            image = _padded(image, (height, width), how)
        case "tiles":
            step = how.stride or min(height, width)
            tops, lefts = _starts(image.height, height, step), _starts(image.width, width, step)
            return [picture[top : top + height, left : left + width] for top in tops for left in lefts]
        case other:
            raise UsageError(f"crop_mode {other!r} with a size")
    return [np.asarray(image)]


def _starts(length: int, size: int, step: int) -> list[int]:
    starts = list(range(0, max(length - size, 0) + 1, step))
    if length > size and starts[-1] + size < length:
        starts.append(length - size)
    return starts


def _resized(image: Image.Image, size: tuple[int, int], how: Preprocessing) -> Image.Image:
    if how.antialias:
        return transforms.resize(image, list(size), InterpolationMode(how.interpolation))
    if how.interpolation not in ("nearest", "bilinear", "bicubic"):
        raise UsageError(f"interpolation {how.interpolation!r} without antialiasing is no one's pipeline")
    values = torch.from_numpy(np.asarray(image)).permute(2, 0, 1)[None].float()
    corners = {} if how.interpolation == "nearest" else {"align_corners": False}
    values = functional.interpolate(values, size, mode=how.interpolation, **corners)
    return Image.fromarray(values[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy())


def _padded(image: Image.Image, size: tuple[int, int], how: Preprocessing) -> Image.Image:
    """As albumentations' PadIfNeeded: on both sides, the odd pixel after."""
    rows, columns = max(size[0] - image.height, 0), max(size[1] - image.width, 0)
    if not rows and not columns:
        return image
    room = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0))
    pixels = np.asarray(image)
    if how.padding == "reflect":
        return Image.fromarray(np.pad(pixels, room, mode="reflect"))
    return Image.fromarray(np.pad(pixels, room, constant_values=how.fill))
