"""How an ONNX judge is fed and read: the structs of its TOML, and the way from pixels to its input array.

Everything that the author's own pipeline does to a picture is written down here, since a judge that is fed
otherwise is another judge.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk import images, perturb
from mllmrisk.pictures import ellipse, gradient

Pixels = NDArray[np.uint8]
#: (height, width)
Size = tuple[int, int]


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the weights are: a `file` beside the TOML, or a `resource` inside an installed `package`.

    Attributes:
        sha256: of the ONNX file; checked before it is loaded.
        extra: the optional dependency set of mllmrisk that brings `package`.
    """

    sha256: str
    file: str | None = None
    package: str | None = None
    resource: str | None = None
    extra: str | None = None

    def __post_init__(self) -> None:
        """Refuses a model that is in no place, or in two."""
        if (self.file is None) == (self.package is None) or (self.package is None) != (self.resource is None):
            raise ValueError("give either file, or package and resource")
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise ValueError("sha256 must be 64 lower-case hexadecimal digits")


class Resize(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a picture gets its size.

    Attributes:
        rule: `squash` (to `size`, whatever the proportions), `short` (the short side to min(size), proportions
            kept), `letterbox` (inside `size`, proportions kept, the rest filled with `fill`).
        size: (height, width).
        kernel: Pillow's filter of that name, with its antialiasing.
        fill: grey level of a letterbox.
    """

    size: Size
    rule: Literal["squash", "short", "letterbox"] = "squash"
    kernel: Literal["box", "bilinear", "bicubic", "lanczos"] = "bilinear"
    fill: int = 0


class Jpeg(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A JPEG round trip that the author's pipeline makes."""

    quality: int
    subsampling: Literal["4:4:4", "4:2:2", "4:2:0"] = "4:2:0"


class Input(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model's input: `(pixel * scale - mean) / std` per channel, float32.

    Attributes:
        name: of the ONNX input.
        channels: the order that the model wants; `mean` and `std` are in that order.
        resize, crop, jpeg: applied in this order; `crop` is a central (height, width).
    """

    name: str
    layout: Literal["NHWC", "NCHW"]
    resize: Resize
    channels: Literal["RGB", "BGR"] = "RGB"
    crop: Size | None = None
    jpeg: Jpeg | None = None
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        """Refuses what cannot be computed."""
        if 0.0 in self.std:
            raise ValueError("std must not be 0")
        if min(*self.resize.size, *(self.crop or (1, 1))) < 1:
            raise ValueError("sizes must be at least 1")
        if self.resize.rule == "short" and self.crop is None:
            raise ValueError("resize rule short needs a crop, or inputs would differ in size")


class Output(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model's output, shape (n, number of labels).

    Attributes:
        name: of the ONNX output.
        labels: one per column.
        activation: what turns the output into scores; `none` where the graph ends in it.
    """

    name: str
    labels: list[str]
    activation: Literal["none", "sigmoid", "softmax"] = "none"


class Attribute(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that an image shows and that is not unsafe in itself: `woman`, say, for a contrast of presentation.

    Attributes:
        labels: the output labels that mean it.
        combine: how several labels make one score: `sum` for exclusive classes, `max` for independent ones.
    """

    labels: list[str]
    combine: Literal["sum", "max"] = "sum"


class Category(Attribute, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A category of unsafe content.

    Attributes:
        threshold: the score from which an image is flagged, unless a suite says otherwise.
    """

    labels: list[str]
    threshold: float


class Probe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A known answer: the score that the author's pipeline gives to a generated picture (:data:`PICTURES`)."""

    image: Literal["ellipse", "gradient"]
    expected: dict[str, float]
    tolerance: float


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole TOML of a judge of the kind `onnx`."""

    kind: Literal["onnx"] = "onnx"
    name: str
    version: str
    about: str
    licence: str
    citation: str
    model: Model
    input: Input
    output: Output
    categories: dict[str, Category]
    probe: Probe
    attributes: dict[str, Attribute] = {}

    def __post_init__(self) -> None:
        """Refuses categories without labels and labels without a column."""
        if not self.categories:
            raise ValueError("at least one category is needed")
        if twice := sorted(set(self.categories) & set(self.attributes)):
            raise ValueError(f"{twice[0]!r} is both a category and an attribute")
        for name, category in (self.categories | self.attributes).items():
            unknown = sorted(set(category.labels) - set(self.output.labels))
            if unknown or not category.labels:
                raise ValueError(f"category {name!r}: no such output label: {', '.join(unknown) or '(none given)'}")
        if set(self.probe.expected) != set(self.categories):
            raise ValueError("probe.expected must name every category")

    def digest(self) -> str:
        """Eight digits over everything that decides a score: weights, input, output, categories' labels."""
        decides = (
            self.model.sha256,
            msgspec.to_builtins(self.input),
            msgspec.to_builtins(self.output),
            {name: (c.labels, c.combine) for name, c in sorted((self.categories | self.attributes).items())},
        )
        return hashlib.sha256(msgspec.json.encode(decides, order="sorted")).hexdigest()[:8]


def prepare(pixels: Pixels, recipe: Input) -> NDArray[np.float32]:
    """The model's input for one picture, without the batch axis.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        recipe: the input part of a judge's TOML.

    Returns:
        float32, (h, w, 3) for NHWC or (3, h, w) for NCHW, C-contiguous.
    """
    resize = recipe.resize
    steps: list[dict[str, Any]] = [_step(resize, recipe.crop)]
    if recipe.crop is not None and resize.rule != "short":
        steps.append({"crop_mode": "centre", "size": recipe.crop})
    *before, last = steps
    for step in before:
        pixels = _pixels(pixels, step)
    if recipe.jpeg is not None:
        pixels, last = _through_jpeg(_pixels(pixels, last), recipe.jpeg), {"crop_mode": "full"}
    normal = {"scale": recipe.scale, "mean": recipe.mean, "std": recipe.std}
    return _row(pixels, last | normal | {"channels": recipe.channels, "layout": recipe.layout})


def _step(resize: Resize, crop: Size | None) -> dict[str, Any]:
    """The keys of `Preprocessing` that do what `resize` says."""
    keys: dict[str, Any] = {"size": resize.size, "interpolation": resize.kernel}
    if resize.rule == "short":
        return keys | {"crop_mode": "short", "resize": min(resize.size), "size": crop}
    if resize.rule == "letterbox":
        return keys | {"crop_mode": "longest", "fill": resize.fill}
    return keys | {"crop_mode": "squash"}


def _pixels(pixels: Pixels, step: dict[str, Any]) -> Pixels:
    return _row(pixels, step | {"layout": "NHWC", "scale": 1.0}).astype(np.uint8)


def _row(pixels: Pixels, keys: dict[str, Any]) -> NDArray[np.float32]:
    prepared = images.prepare([pixels], images.Preprocessing(**keys), threads=1)
    for error in prepared.errors.values():
        raise error
    row: NDArray[np.float32] = prepared.values[0]
    return row


def _through_jpeg(pixels: Pixels, jpeg: Jpeg) -> Pixels:
    chain = f"jpeg:{jpeg.quality}:{jpeg.subsampling.replace(':', '')}"
    return perturb.apply(np.ascontiguousarray(pixels), chain)


#: The pictures that a probe can name: generated, so that no image travels with a judge.
PICTURES = {"ellipse": ellipse, "gradient": gradient}
