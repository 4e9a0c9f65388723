"""Real images of a run that is given none by hand: a manifest of the user's, or the embedded world's camera.

In the world each benign caption has its photographs, so that real and generated images show the same things and a
detector cannot tell them apart by what they show.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from mllmrisk import config, manifest, world
from mllmrisk.errors import UsageError
from mllmrisk.manifest import Manifest
from mllmrisk.prompts import places
from mllmrisk.records import Prompt, Sample


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What a profile's `[photographs]` may say.

    Attributes:
        per_caption: photographs of the scene that each caption names.
    """

    kind: Literal["world"]
    per_caption: int = 2


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest of photographs, in the user's folder of prompts unless its path is absolute.

    Attributes:
        published: where the photographs can be had, in words.
    """

    kind: Literal["manifest"]
    file: str
    published: str = ""

    @property
    def path(self) -> Path:
        """Where the manifest is."""
        return places.home() / self.file


class Photograph(NamedTuple):
    """A photograph that is to be taken: its sample, and what gives its bytes."""

    sample: Sample
    take: Callable[[], bytes]


def check(table: Mapping[str, Any]) -> None:
    """Refuses a profile's `[photographs]` that cannot be used.

    Raises:
        UsageError: the table is wrong, or its manifest is not there.
    """
    asked = _asked(table)
    if isinstance(asked, Given) and not asked.path.exists():
        raise UsageError(f"no photographs: there is no {asked.path}. {asked.published}; or give them with --images")


def given(table: Mapping[str, Any], limit: int | None) -> Manifest | None:
    """The manifest that a profile's `[photographs]` names, or None where they are taken by the camera."""
    asked = _asked(table)
    return manifest.read(asked.path, limit, both=False) if isinstance(asked, Given) else None


def _asked(table: Mapping[str, Any]) -> World | Given:
    kinds: dict[object, type[World] | type[Given]] = {"world": World, "manifest": Given}
    if table.get("kind") not in kinds:
        raise UsageError(f"photographs: kind must be one of {', '.join(map(str, kinds))}, not {table.get('kind')!r}")
    return config.converted(dict(table), kinds[table.get("kind")])


def planned(table: Mapping[str, Any], captions: Sequence[Prompt], seed: int) -> list[Photograph]:
    """The photographs of a run.

    Args:
        table: the profile's `[photographs]`.
        captions: benign prompts; each has photographs of its own, so that its words tell nothing either.
        seed: of the run.

    Raises:
        UsageError: the table is wrong, or a caption does not say which scene it names.
    """
    asked = _asked(table)
    if isinstance(asked, Given):
        raise TypeError("photographs of a manifest are given, not taken")
    return [_planned(_scene(prompt), prompt, index, seed) for prompt in captions for index in range(asked.per_caption)]


def _scene(prompt: Prompt) -> world.Scene:
    try:
        return world.Scene(*(prompt.extra[name] for name in ("subject", "colour", "place")))
    except KeyError as missing:
        raise UsageError(f"photographs of the world: prompt {prompt.id} has no column {missing}") from missing


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
