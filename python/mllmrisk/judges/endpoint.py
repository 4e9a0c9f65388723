"""How a picture travels to a service (:mod:`mllmrisk.endpoint`)."""

from __future__ import annotations

import base64
from typing import Any

from numpy.typing import NDArray

from mllmrisk import images, perturb

#: What services of this kind take as it is; anything else is sent as PNG.
_TAKEN = {"JPEG": "image/jpeg", "PNG": "image/png", "WebP": "image/webp"}


def data_url(data: bytes, pixels: NDArray[Any]) -> str:
    """An image as a data URL: its own bytes where services take them, else (or where EXIF turns it) a PNG.

    Args:
        data: the image as it is stored.
        pixels: the same, decoded upright, (H, W, 3) uint8.
    """
    container = images.probe(data)
    kind = _TAKEN.get(container.format)
    if kind is None or container.orientation not in (None, 1) or container.frames > 1:
        data, kind = perturb.encode(pixels, "native"), "image/png"
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
