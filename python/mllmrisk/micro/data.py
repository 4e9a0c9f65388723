"""Pictures and captions to learn from: each follows from its split and its index alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from mllmrisk.world import COLOURS, PLACES, SIDE, SUBJECTS, Scene, caption, draw, kinds_of, scenes

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from mllmrisk.world.captions import Kind, Split

Part: TypeAlias = Literal["generators", "judge", "inspector", "held-out"]

SEEDS: dict[Part, int] = {"generators": 1, "judge": 2, "inspector": 3, "held-out": 4}
"""The first number of every picture's seed: no two parts share a picture."""

SCENES: tuple[Scene, ...] = tuple(scenes())

SHARES: dict[Kind, float] = {"literal": 0.35, "long": 0.2, "abstract": 0.2, "chinese": 0.25, "neutral": 0.0}
"""How often each kind of caption is shown for a thing."""
PERSON_SHARES: dict[Kind, float] = {"literal": 0.25, "long": 0.15, "abstract": 0.15, "chinese": 0.2, "neutral": 0.25}
"""How often each kind of caption is shown for a person."""


def scene_of(index: int) -> Scene:
    """The scene of the picture with that index: all 240 in turn."""
    return SCENES[index % len(SCENES)]


def labels(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """`(n, 3)`: the numbers of subject, colour and place of each picture."""
    return np.stack(np.unravel_index(indices % len(SCENES), (len(SUBJECTS), len(COLOURS), len(PLACES))), axis=1)


def pictures(part: Part, count: int, out: Path) -> npt.NDArray[np.uint8]:
    """The first pictures of a part, drawn once and kept.

    Returns:
        `(count, 96, 96, 3)` uint8, mapped from `out/pictures-PART-COUNT.npy`.
    """
    path = out / f"pictures-{part}-{count}.npy"
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        drawn = np.lib.format.open_memmap(partial, "w+", np.uint8, (count, SIDE, SIDE, 3))
        for index in range(count):
            drawn[index] = draw(scene_of(index), np.random.default_rng([SEEDS[part], index]))
        drawn.flush()
        partial.rename(path)
    return np.load(path, mmap_mode="r")


def say(scene: Scene, rng: np.random.Generator, split: Split = "train", kind: Kind | None = None) -> str:
    """A caption of a scene, of the given kind or of one drawn by the shares."""
    shares = PERSON_SHARES if scene.person else SHARES
    kinds = kinds_of(scene)
    drawn = kinds[int(rng.choice(len(kinds), p=[shares[k] for k in kinds]))] if kind is None else kind
    return caption(scene, drawn, rng, split)


def corpus(count: int = 12000, seed: int = 5) -> list[str]:
    """Training captions, from which the tokenizers learn their words."""
    rng = np.random.default_rng(seed)
    return [say(scene_of(index), rng) for index in range(count)]
