"""Which training images are fitted, which end the training, and which calibrate: by whole groups."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mllmrisk.detectors.finetuning.recipe import Shares

#: Parts of a division, in the order of their numbers.
PARTS = ("fit", "validation", "calibration")


class Division(NamedTuple):
    """A part for each training image.

    Attributes:
        part: (n,) int64, the number of its part in :data:`PARTS`.
        by: `group`, or which label's images were divided one by one because it has fewer than three groups.
    """

    part: NDArray[np.int64]
    by: str

    def of(self, name: str) -> NDArray[np.int64]:
        """Positions of the images of a part."""
        return np.flatnonzero(self.part == PARTS.index(name))


def divide(
    groups: NDArray[np.int64], labels: NDArray[np.bool_], kinds: NDArray[np.str_], shares: Shares, seed: int
) -> Division:
    """Divides training images so that no group stands in two parts, and each part has both labels.

    Groups are dealt, the large ones first, to the part that lacks most of their kind of image. A label with fewer
    than three groups (one generator, one source) is divided image by image, and :attr:`Division.by` says so: for it,
    validation and calibration are easier than what comes later.

    Args:
        groups: (n,) group of each image.
        labels: (n,) True for generated.
        kinds: (n,) what each part should have its share of: the paradigm.
        shares: of validation and calibration.
        seed: another seed gives another division.

    Raises:
        ValueError: a label has too few images or groups, so that some part would lack it.
    """
    ids = groups.copy()
    alone = []
    for label, word in ((False, "real"), (True, "fake")):
        side = np.flatnonzero(labels == label)
        if len(side) < len(PARTS):
            raise ValueError(f"fine-tuning needs at least {len(PARTS)} {word} images to train on, and has {len(side)}")
        if len(np.unique(ids[side])) < len(PARTS):
            alone.append(word)
            ids[side] = ids.max() + 1 + np.arange(len(side))
    part = _deal(ids, labels, kinds, shares, np.random.default_rng([seed, 0xD1F1]))
    return Division(part, f"image ({' and '.join(alone)})" if alone else "group")


def _deal(
    ids: NDArray[np.int64],
    labels: NDArray[np.bool_],
    kinds: NDArray[np.str_],
    shares: Shares,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    wanted = np.array([1 - shares.validation - shares.calibration, shares.validation, shares.calibration])
    names, kind_of = np.unique(kinds, return_inverse=True)
    lack = wanted[:, None] * np.bincount(kind_of, minlength=len(names))  # images still wanted, by part and kind
    has = np.zeros((len(PARTS), 2), dtype=bool)
    members = {int(group): np.flatnonzero(ids == group) for group in np.unique(ids)}
    order = [int(group) for group in rng.permutation(sorted(members))]
    order.sort(key=lambda group: -len(members[group]))
    left = [sum(bool((labels[members[g]] == label).any()) for g in order) for label in (False, True)]
    part = np.zeros(len(ids), dtype=np.int64)
    for group in order:
        rows = members[group]
        content = np.bincount(kind_of[rows], minlength=len(names))
        own = [bool((labels[rows] == label).any()) for label in (False, True)]
        score = lack @ content / content.sum()
        for label in (0, 1):
            # The last groups of a label go where it is still missing, whatever the shares say.
            if own[label] and left[label] <= (~has[:, label]).sum():
                score = np.where(has[:, label], -np.inf, score)
        chosen = int(np.argmax(score))
        part[rows] = chosen
        lack[chosen] -= content
        has[chosen] |= own
        left = [n - o for n, o in zip(left, own, strict=True)]
    if not has.all():
        missing = ", ".join(PARTS[i] for i in np.flatnonzero(~has.all(axis=1)))
        raise ValueError(f"the groups of the training images cannot be divided: {missing} would lack a label")
    return part
