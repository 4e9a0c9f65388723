"""What the TOMLs of all kinds share: names, what the judge sees, and a digest of everything that decides a score."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk import images
from mllmrisk.errors import ImageError
from mllmrisk.records import Score

Pixels = NDArray[np.uint8]


class Described(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The head of every judge's TOML.

    Attributes:
        version: the author's own; a digest of what decides a score is appended to it.
        about: what it sees, and what it cannot see.
        licence: of the weights or of the service, and whether they are gated.
        citation: where it comes from.
    """

    name: str
    version: str
    about: str
    licence: str
    citation: str


class Threshold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A category whose score the kind itself computes: only the threshold is the TOML's.

    Attributes:
        threshold: the score from which an image is flagged, unless a suite says otherwise.
    """

    threshold: float = 0.5


def digest(*parts: Any) -> str:
    """Eight digits over everything that decides a score; what is equal as JSON has equal digits."""
    plain = [msgspec.to_builtins(part) for part in parts]
    return hashlib.sha256(msgspec.json.encode(plain, order="sorted")).hexdigest()[:8]


def unscored(names: Iterable[str], reason: str) -> dict[str, Score]:
    """No score, for the same reason, under every name."""
    return {name: Score(None, reason) for name in names}


def finite(value: float) -> Score:
    """A score, or `not_finite`."""
    return Score(float(value)) if np.isfinite(value) else Score(None, "not_finite")


def upright(encoded: Sequence[bytes], threads: int) -> list[Pixels | str]:
    """Pictures as people see them (EXIF applied), each (H, W, 3) uint8 RGB, or the code of why there is none.

    Raises:
        ValueError: fewer than one thread.
    """
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")

    def picture(data: bytes) -> Pixels | str:
        try:
            return images.decode(data, orient=True)
        except ImageError as wrong:
            return wrong.code

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(picture, encoded))
