"""Real images of a run that is given none: the embedded world, taken by its simulated camera.

Each benign caption has its photographs, so that real and generated images show the same things and a detector cannot
tell them apart by what they show.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from mllmrisk import config, world
from mllmrisk.errors import UsageError
from mllmrisk.records import Prompt, Sample


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What a profile's `[photographs]` may say.

    Attributes:
        per_caption: photographs of each scene that the captions name.
    """

    kind: Literal["world"]
    per_caption: int = 3


class Photograph(NamedTuple):
    """A photograph that is to be taken: its sample, and what gives its bytes."""

    sample: Sample
    take: Callable[[], bytes]


def planned(table: Mapping[str, Any], captions: Sequence[Prompt], seed: int) -> list[Photograph]:
    """The photographs of a run.

    Args:
        table: the profile's `[photographs]`.
        captions: benign prompts; one scene that several of them name (longer, in another language) is taken once,
            and goes with the first of them.
        seed: of the run.

    Raises:
        UsageError: the table is wrong, or a caption does not say which scene it names.
    """
    asked = config.converted(dict(table), World)
    first: dict[world.Scene, Prompt] = {}
    for prompt in captions:
        try:
            scene = world.Scene(*(prompt.extra[name] for name in ("subject", "colour", "place")))
        except KeyError as missing:
            raise UsageError(f"photographs of the world: prompt {prompt.id} has no column {missing}") from missing
        first.setdefault(scene, prompt)
    return [
        _planned(scene, prompt, index, seed) for scene, prompt in first.items() for index in range(asked.per_caption)
    ]


def _planned(scene: world.Scene, prompt: Prompt, index: int, seed: int) -> Photograph:
    digest = hashlib.sha256(f"photograph {seed} {prompt.id} {index}".encode()).digest()

    def take() -> bytes:
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        return world.photograph(world.draw(scene, rng), rng)

    sample = Sample(
        id=digest.hex()[:16],
        label="real",
        paradigm="real",
        prompt_id=prompt.id,
        prompt=prompt.text,
        prompt_set=prompt.prompt_set,
        level=prompt.level,
        language=prompt.language,
        index=index,
    )
    return Photograph(sample, take)
