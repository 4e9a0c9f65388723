"""Perturbations: what happens to an image on its way to a viewer.

A chain is a text, steps joined by `+`: `crop:256+jpeg:90:420`. `describe()` lists the steps with their grammar, and the
chains that have a name (`recompressed`, `social`, ...). Everything runs in the core, outside the interpreter.
"""

from __future__ import annotations

import difflib
import os
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from mllmrisk import _core
from mllmrisk.errors import UsageError
from mllmrisk.images import Limits, Source, _plain

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Perturbation(NamedTuple):
    """A step or a named chain."""

    name: str
    """The first word of its text."""
    grammar: str
    """How it is written; what stands in brackets may be left out."""
    what: str
    """What it does."""
    chain: str | None
    """For a named chain, the steps that it stands for."""


@lru_cache(maxsize=1)
def describe() -> tuple[Perturbation, ...]:
    """Every step, then every named chain."""
    return tuple(Perturbation(**about) for about in _core.perturbations())


def canonical(chain: str) -> str:
    """The chain as records keep it: two texts that mean the same have the same canonical text.

    Raises:
        UsageError: the text is no chain; the message names the grammar, or the nearest step.
    """
    try:
        return _core.canonical_chain(chain)
    except ValueError as error:
        raise UsageError(f"{error}{_hint(chain)}") from None


def joined(first: str, then: str) -> str:
    """One chain after another; `native` does nothing."""
    return "+".join(chain for chain in (first, then) if chain != "native") or "native"


def apply(image: npt.NDArray[np.uint8], chain: str, *, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Does a chain to pixels.

    Args:
        image: `(height, width, 3)` uint8, RGB; it is not changed.
        chain: the chain's text.
        seed: for steps with chance in them (`noise`); the same seed gives the same pixels everywhere.

    Returns:
        `(height', width', 3)` uint8.

    Raises:
        UsageError: the text is no chain, or the array no image.
    """
    canonical(chain)
    _check(image)
    try:
        return _core.perturb(image, chain, seed)
    except ValueError as error:
        raise UsageError(str(error)) from None


def encode(source: Source | npt.NDArray[np.uint8], chain: str, *, seed: int = 0, limits: Limits | None = None) -> bytes:
    """The file that a chain ends in: its last encoder's bytes, or a PNG if it ends in none.

    Args:
        source: an image file (bytes or path; decoded as stored), or `(height, width, 3)` uint8 pixels.
        chain: the chain's text.
        seed: as for `apply`.
        limits: as for `mllmrisk.images.decode`.

    Raises:
        UsageError: the text is no chain, or the array no image.
        ImageError: the file gives no image.
    """
    canonical(chain)
    if isinstance(source, bytes | bytearray | memoryview | str | os.PathLike):
        return _core.reencode(_plain(source), chain, seed, limits)
    _check(source)
    try:
        return _core.reencode(source, chain, seed, limits)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _check(image: npt.NDArray[np.uint8]) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != "uint8":
        raise UsageError(f"an image is (height, width, 3) uint8, not {image.shape} {image.dtype}")


def _hint(chain: str) -> str:
    """` Did you mean ...?` for the first step whose name nobody knows."""
    names = [about.name for about in describe()]
    for step in chain.split("+"):
        name = step.split(":")[0].strip()
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            return f". Did you mean `{near[0]}`?" if near else ""
    return ""
