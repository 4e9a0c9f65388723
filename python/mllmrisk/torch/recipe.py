"""What is done to an image on its way into a batch, and the batch that comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from mllmrisk import images as core
from mllmrisk import perturb
from mllmrisk.errors import ImageError, UsageError
from mllmrisk.images import Preprocessing, View
from mllmrisk.torch.order import Indices, draws, fractions
from mllmrisk.torch.sources import Images

#: Purposes of chance: see `order.draws`.
_CHAIN, _NOISE, _DOWN, _ACROSS, _MIRROR = range(5)

_WHOLE = 1 + 1e-9
_MANY_ROWS = ("tiles", "full")


@dataclass(frozen=True, slots=True)
class Bad:
    """An image that gave nothing."""

    index: int
    """Its index in the dataset."""
    name: str
    """Its path, its member of a tar or its row of a Parquet file."""
    code: str
    """The reason as one word: see `mllmrisk.errors.ImageError`."""
    message: str
    """The reason for people, without the name."""


class Batch(NamedTuple):
    """Images with their labels; bad images are left out of all three tensors."""

    images: torch.Tensor
    """(m, 3, h, w), or (m, h, w, 3) for layout `NHWC`; float32 or uint8; C-contiguous."""
    labels: torch.Tensor
    """(m,) int64; -1 where an image has none."""
    indices: torch.Tensor
    """(m,) int64: which image of the dataset a row comes from."""
    errors: tuple[Bad, ...]
    """The images of the batch that gave nothing."""


class Recipe(msgspec.Struct, frozen=True):
    """From an image file to a row of a batch: decoded, perturbed, resized, cropped, normalised.

    Chance draws from seed, epoch and the image's index alone: a row does not depend on its batch, on threads, workers
    or ranks.

    Attributes:
        how: size, crop, interpolation and normalisation.
        chains: perturbation chains (`mllmrisk.perturb`) with their probabilities, of which each image gets one; what
            they lack to 1 is the share of images that are left as they are. A text alone is for every image. A chain
            works on the whole decoded image, before the crop.
        random_crop: crop at a random place, not at that of `how` (`centre`: torchvision's RandomCrop; `short`: Resize,
            then RandomCrop).
        mirror: probability that left and right change places.
        dtype: `float32`: normalised as `how` says. `uint8`: levels as they are, a quarter of the memory; `how` then
            must have no `scale`, `mean` and `std` of its own.
        seed: of chance, 0 to 2^63 - 1.

    Raises:
        UsageError: a chain is none, probabilities are none, or settings contradict each other.
    """

    how: Preprocessing
    chains: Mapping[str, float] | str | None = None
    random_crop: bool = False
    mirror: float = 0.0
    dtype: Literal["float32", "uint8"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        shares = self._shares()
        for chain in shares:
            perturb.canonical(chain)
        if any(not 0 <= share <= 1 for share in (*shares.values(), self.mirror)) or sum(shares.values()) > _WHOLE:
            raise UsageError(f"probabilities are 0 to 1, those of chains at most 1 in all: {shares}, {self.mirror}")
        if (self.random_crop or self.mirror) and self.how.crop_mode in _MANY_ROWS:
            raise UsageError(f"random_crop and mirror go with one row an image, not crop_mode {self.how.crop_mode}")
        plain = Preprocessing(crop_mode="full")
        if self.dtype == "uint8" and any(getattr(self.how, k) != getattr(plain, k) for k in ("scale", "mean", "std")):
            raise UsageError("uint8 has the levels as they are: leave scale, mean and std of `how` out")
        if self.dtype not in {"float32", "uint8"}:
            raise UsageError(f"dtype is float32 or uint8, not {self.dtype}")
        if not 0 <= self.seed < 1 << 63:
            raise UsageError(f"seed is 0 to 2^63 - 1, not {self.seed}")

    def batch(self, images: Images, indices: Indices, epoch: int, threads: int) -> Batch:
        """The images with these indices, in this order.

        Args:
            images: where they are.
            indices: (n,) int64.
            epoch: chance differs from one epoch to the next.
            threads: of the core.
        """
        fetched = images.fetch(indices)
        wrong = {i: found for i, found in enumerate(fetched) if isinstance(found, ImageError)}
        there = np.array([i for i in range(len(indices)) if i not in wrong], np.int64)
        some = indices[there]
        levels = self.dtype == "uint8"
        prepared = core.prepare(
            [found for found in fetched if not isinstance(found, ImageError)],
            msgspec.structs.replace(self.how, scale=1.0) if levels else self.how,
            chains=self._chains(some, epoch),
            seeds=None if self.chains is None else draws(self.seed, epoch, some, _NOISE).tolist(),
            views=self._views(some, epoch),
            threads=threads,
            partial=True,
        )
        wrong.update((int(there[i]), error) for i, error in prepared.errors.items())
        rows = some[prepared.rows]
        values = prepared.values.astype(np.uint8) if levels else prepared.values
        return Batch(
            torch.from_numpy(values),
            torch.from_numpy(images.labels[rows]),
            torch.from_numpy(rows),
            tuple(_bad(images, int(indices[i]), wrong[i]) for i in sorted(wrong)),
        )

    def _shares(self) -> Mapping[str, float]:
        return {self.chains: 1.0} if isinstance(self.chains, str) else self.chains or {}

    def _chains(self, indices: Indices, epoch: int) -> list[str | None] | None:
        shares = self._shares()
        if not shares:
            return None
        texts = [None if perturb.canonical(text) == "native" else text for text in shares]
        # The sum of shares that should be 1 may be a little less: nobody falls into that gap.
        bounds = np.cumsum(list(shares.values()))
        bounds[bounds > 1 - 1e-9] = 1.0
        drawn = np.searchsorted(bounds, fractions(self.seed, epoch, indices, _CHAIN), side="right")
        return [texts[k] if k < len(texts) else None for k in drawn]

    def _views(self, indices: Indices, epoch: int) -> list[View] | None:
        if not self.random_crop and not self.mirror:
            return None

        def drawn(purpose: int) -> npt.NDArray[np.float64]:
            return fractions(self.seed, epoch, indices, purpose)

        mirrored = (drawn(_MIRROR) < self.mirror).tolist()
        if not self.random_crop:
            return [View(None, turned) for turned in mirrored]
        places = zip(drawn(_DOWN).tolist(), drawn(_ACROSS).tolist(), strict=True)
        return [View(place, turned) for place, turned in zip(places, mirrored, strict=True)]


def _bad(images: Images, index: int, error: ImageError) -> Bad:
    # The message begins with what its author calls the image: a path, or its place in one call.
    name, message = images.name(index), str(error)
    after = message.removeprefix(f"{name}: ")
    return Bad(index, name, error.code, after if after != message else message.partition(": ")[2])
