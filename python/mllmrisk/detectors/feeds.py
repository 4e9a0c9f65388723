"""How pictures become the inputs of a network that is being exported: as the Rust core makes them, and as its author.

One feed per kind of detector; a kind that has none cannot be exported to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mllmrisk import config, images
from mllmrisk.detectors import aide, spai
from mllmrisk.detectors.onnx import raw_scores
from mllmrisk.detectors.recipe import Recipe
from mllmrisk.detectors.single import SingleRecipe
from mllmrisk.errors import ImageError, UsageError

Pixels = NDArray[np.uint8]
Values = NDArray[np.float32]


#: A network, in torch or in ONNX: inputs by name → outputs in order.
Run = Callable[[Mapping[str, Any]], Sequence[NDArray[np.float64]]]


class Feed(NamedTuple):
    """The way into a network and out of it.

    Attributes:
        name: of the detector.
        core: pictures → inputs by name, as the detector will make them.
        author: the same by Pillow and torchvision.
        levels: (3, 1, 1), or (3,) where channels are last: by what a difference of an input becomes one of levels.
        outputs: names of the network's outputs.
        free: dimensions that may vary, by input.
        score: a network and the inputs of one picture → its raw score.
        whole: whether pictures go in at their own size, so that those of one call must be alike.
        completed: a network and the inputs of pictures → these and what the network wants beside them.
    """

    name: str
    core: Callable[[Sequence[Pixels]], Mapping[str, Values]]
    author: Callable[[Sequence[Pixels]], Mapping[str, Any]]
    levels: NDArray[np.float64]
    outputs: tuple[str, ...]
    free: Mapping[str, Sequence[int]]
    score: Callable[[Run, Mapping[str, Any]], float]
    whole: bool = False
    completed: Callable[[Run, Mapping[str, Any]], Mapping[str, Any]] = lambda _, inputs: inputs


def of(table: Mapping[str, Any], module: Any) -> Feed:
    """The feed of a detector's TOML and the network that it is for.

    Raises:
        UsageError: the table is wrong, or of a kind that has no feed.
    """
    kind = str(table.get("kind", "onnx"))
    if kind not in _FEEDS:
        raise UsageError(f"nothing is exported to the kind {kind!r}: {', '.join(_FEEDS)}")
    return _FEEDS[kind](dict(table), module)


def _onnx(table: dict[str, Any], _: Any) -> Feed:
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
        core=core,
        author=author,
        levels=levels if last else levels[:, None, None],
        outputs=(recipe.output.name,),
        free={name: (0, *axes) if whole else (0,)},
        score=lambda run, inputs: float(np.mean(raw_scores(run(inputs)[0], recipe.output))),
        whole=whole,
    )


def _aide(table: dict[str, Any], _: Any) -> Feed:
    recipe, how = config.converted(table, SingleRecipe), aide.IMAGE

    def core(pictures: Sequence[Pixels]) -> dict[str, Values]:
        return {
            aide.PATCHES: checked(images.patches(list(pictures)), recipe.name),
            aide.PIXELS: checked(images.prepare(list(pictures), how), recipe.name),
        }

    def author(pictures: Sequence[Pixels]) -> dict[str, Any]:
        from mllmrisk.detectors.architectures.aide import inputs

        patches, pixels = inputs(pictures)
        return {aide.PATCHES: patches, aide.PIXELS: pixels}

    return Feed(
        name=recipe.name,
        core=core,
        author=author,
        levels=(np.array(how.std) / how.scale)[:, None, None],
        outputs=(aide.OUTPUT.name,),
        free={aide.PATCHES: (0,), aide.PIXELS: (0,)},
        score=lambda run, inputs: float(raw_scores(run(inputs)[0], aide.OUTPUT)[0]),
    )


def _spai(table: dict[str, Any], module: Any) -> Feed:
    recipe = config.converted(table, SingleRecipe)
    side, width = int(module.mfvit.frequencies_mask.shape[0]), int(module.norm.normalized_shape[0])
    none = np.zeros((1, 1, width), np.float32)

    def core(pictures: Sequence[Pixels]) -> dict[str, Values]:
        wholes = [checked(images.prepare([picture], spai.WHOLE), recipe.name)[0] for picture in pictures]
        return {spai.PATCHES: np.concatenate([spai.patches(pixels, side) for pixels in wholes])}

    def author(pictures: Sequence[Pixels]) -> dict[str, Any]:
        from mllmrisk.detectors.architectures.spai import patches

        return {spai.PATCHES: patches(pictures, side)}

    def encoded(run: Run, patches: Any) -> Values:
        starts = range(0, len(patches), 8)
        parts = [run({spai.PATCHES: patches[start : start + 8], spai.FEATURES: none})[0] for start in starts]
        return np.concatenate(parts).astype(np.float32)

    def completed(run: Run, inputs: Mapping[str, Any]) -> dict[str, Any]:
        patches = inputs[spai.PATCHES]
        half = len(patches) // 2
        features = encoded(run, patches)[: 2 * half].reshape(2, half, width)
        return {spai.PATCHES: patches, spai.FEATURES: features}

    def score(run: Run, inputs: Mapping[str, Any]) -> float:
        patches = inputs[spai.PATCHES]
        return float(run({spai.PATCHES: patches[:1], spai.FEATURES: encoded(run, patches)[None]})[1][0, 0])

    return Feed(
        name=recipe.name,
        core=core,
        author=author,
        levels=np.full((1, 1, 1), 255.0),
        outputs=(spai.ENCODED, spai.LOGITS),
        free={spai.PATCHES: (0,), spai.FEATURES: (0, 1)},
        score=score,
        completed=completed,
    )


def checked(prepared: images.Prepared, name: str) -> Values:
    """The values, once every picture has given some.

    Raises:
        UsageError: one is too small.
    """
    for i, wrong in prepared.errors.items():
        raise UsageError(f"{name}: picture {i}: {wrong}") from ImageError(str(wrong), wrong.code)
    return prepared.values


_FEEDS: dict[str, Callable[[dict[str, Any], Any], Feed]] = {"onnx": _onnx, "aide": _aide, "spai": _spai}
