"""How pictures become the inputs of a network that is being exported: as the Rust core makes them, and as its author.

One feed per kind of detector; a kind that has none cannot be exported to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mllmrisk import config, images
from mllmrisk.detectors.recipe import Output, Recipe
from mllmrisk.errors import ImageError, UsageError

Pixels = NDArray[np.uint8]
Values = NDArray[np.float32]


class Feed(NamedTuple):
    """The way into a network.

    Attributes:
        name: of the detector.
        output: how its output is read.
        core: pictures → inputs by name, as the detector will make them.
        author: the same by Pillow and torchvision.
        levels: (3, 1, 1), or (3,) where channels are last: by what a difference of an input becomes one of levels.
        free: dimensions of the inputs that may vary.
        whole: whether pictures go in at their own size, so that those of one call must be alike.
    """

    name: str
    output: Output
    core: Callable[[Sequence[Pixels]], Mapping[str, Values]]
    author: Callable[[Sequence[Pixels]], Mapping[str, Any]]
    levels: NDArray[np.float64]
    free: tuple[int, ...]
    whole: bool


def of(table: Mapping[str, Any]) -> Feed:
    """The feed of a detector's TOML.

    Raises:
        UsageError: the table is wrong, or of a kind that has no feed.
    """
    kind = str(table.get("kind", "onnx"))
    if kind not in _FEEDS:
        raise UsageError(f"nothing is exported to the kind {kind!r}: {', '.join(_FEEDS)}")
    return _FEEDS[kind](dict(table))


def _onnx(table: dict[str, Any]) -> Feed:
    recipe = config.converted(table, Recipe)
    if recipe.output.head is not None:
        raise UsageError(f"{recipe.name}: a head is part of the network when it is exported")
    how, name = recipe.input.preprocessing(), recipe.input.name
    whole = how.size is None

    def core(pictures: Sequence[Pixels]) -> dict[str, Values]:
        return {name: checked(images.prepare(list(pictures), how), recipe.name)}

    def author(pictures: Sequence[Pixels]) -> dict[str, Any]:
        from mllmrisk.detectors.architectures.pipelines import tensors

        return {name: tensors(pictures, how)}

    last = how.layout == "NHWC"
    levels = np.array(how.std) / how.scale
    axes = (1, 2) if last else (2, 3)
    return Feed(
        name=recipe.name,
        output=recipe.output,
        core=core,
        author=author,
        levels=levels if last else levels[:, None, None],
        free=(0, *axes) if whole else (0,),
        whole=whole,
    )


def checked(prepared: images.Prepared, name: str) -> Values:
    """The values, once every picture has given some.

    Raises:
        UsageError: one is too small.
    """
    for i, wrong in prepared.errors.items():
        raise UsageError(f"{name}: picture {i}: {wrong}") from ImageError(str(wrong), wrong.code)
    return prepared.values


_FEEDS: dict[str, Callable[[dict[str, Any]], Feed]] = {"onnx": _onnx}
