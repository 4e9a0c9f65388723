"""Near-duplicates: one picture in two files. On both sides of a split it would be tested on what was trained on.

Two images are near-duplicates when their perceptual hashes differ in few bits (candidates) and their 16×16 thumbnails
by little on average (the hash sees luma alone, and few of its details).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mllmrisk import images
from mllmrisk.errors import UsageError

#: `stop` a training of detectors (`mllmrisk train`, the experiment `retrain`) with their list, and join them into one
#: group elsewhere; `join` them everywhere; `tell` how many there are and leave groups as they are.
Policy: TypeAlias = Literal["stop", "join", "tell"]

#: Bits of 64 in which hashes of one picture may differ: copies of photographs that were resized, blurred or compressed
#: to quality 50 differ in at most 2, different photographs of the corpus in more than 8.
BITS = 4
#: Mean absolute difference of thumbnails, in grey levels; such copies differ by at most 1.
LEVELS = 4.0
_LISTED = 10


#: Changes when :func:`look` does, so that stored ones are not mixed.
VERSION = 1
_THUMBNAIL = 16
_PARTS = 4


class Pair(NamedTuple):
    """Two samples that show one picture."""

    one: str
    other: str


def look(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(772,) float32: the perceptual hash in four parts of 16 bits, then the thumbnail's grey levels.

    Raises:
        ImageError: the image is too small for a hash.
    """
    measured = images.statistics([pixels], threads=1)
    if measured.errors:
        raise measured.errors[0]
    parts = measured.hashes.view(np.uint16).astype(np.float32)
    thumbnail = images.resize(pixels, _THUMBNAIL, _THUMBNAIL, "box")
    return np.concatenate([parts, thumbnail.ravel().astype(np.float32)])


def pairs(ids: Sequence[str], looks: NDArray[np.float32], groups: NDArray[np.int64]) -> list[Pair]:
    """Near-duplicates across groups, in the order of the samples.

    Args:
        ids: n sample ids.
        looks: (n, 772) what :func:`look` makes of each.
        groups: (n,) group of each; pairs within one are no matter.
    """
    hashes = looks[:, :_PARTS].astype(np.uint16).view(np.uint64)[:, 0]
    thumbnails = looks[:, _PARTS:]
    near = images.near_duplicates(hashes, BITS, groups)
    apart = np.abs(thumbnails[near[:, 0]] - thumbnails[near[:, 1]]).mean(axis=1)
    return [Pair(ids[i], ids[j]) for i, j in near[apart <= LEVELS].tolist()]


def refuse(found: Sequence[Pair], names: dict[str, str]) -> None:
    """Stops with the list of near-duplicates, if there are any.

    Args:
        found: the pairs.
        names: what each sample is called.

    Raises:
        UsageError: there are some.
    """
    if not found:
        return
    lines = "\n".join(f"  {names[pair.one]}  {names[pair.other]}" for pair in found[:_LISTED])
    more = f"\n  ... and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    raise UsageError(
        f"{len(found)} pair(s) of near-duplicates could stand on both sides of a split:\n{lines}{more}\n"
        "remove one of each, give both the same source in the manifest, or let them count as one: "
        'near_duplicates = "join" in the profile, --near-duplicates join for mllmrisk train'
    )


def notes(found: Sequence[Pair], policy: Policy) -> list[str]:
    """What was done about near-duplicates, in words."""
    if not found:
        return []
    done = (
        "are left in their groups, as the profile says"
        if policy == "tell"
        else "count as one group, so that no split divides them"
    )
    return [f"Near-duplicates: {len(found)} pair(s) of images of different groups show one picture; they {done}."]
