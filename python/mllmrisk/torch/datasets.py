"""The two datasets: whole batches one after the other, and images by index for samplers."""

from __future__ import annotations

import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from mllmrisk.errors import ImageError, UsageError
from mllmrisk.torch.order import Indices, order
from mllmrisk.torch.recipe import Bad, Batch, Recipe
from mllmrisk.torch.sources import Images

OnBad = Literal["skip", "raise"]


class SkippedImagesWarning(UserWarning):
    """Images were left out of an epoch because they could not be read."""


class ImageBatches(IterableDataset[Batch]):
    """Whole batches, for a `DataLoader` with `batch_size=None` or as they are.

    The batches of an epoch and their order follow from `seed` and the epoch. Workers take them in turn: a `DataLoader`
    gives the same batches in the same order whatever `num_workers` is. Ranks share the images of an epoch, none twice.
    """

    def __init__(
        self,
        images: Images,
        recipe: Recipe,
        batch_size: int,
        *,
        shuffle: int = 0,
        drop_last: bool = False,
        bad: OnBad = "skip",
        threads: int | None = None,
        prefetch: int = 1,
        rank: int | None = None,
        world: int | None = None,
    ) -> None:
        """Opens nothing yet.

        Args:
            images: `files(...)`, `tars(...)` or `parquet(...)`.
            recipe: what is done to each.
            batch_size: images of a batch; bad ones leave it smaller, and a batch of bad images alone is left out.
            shuffle: 0: the stored order. Else a new order each epoch: of files always among all; tars and row groups of
                Parquet come in random order and this many images are shuffled at a time.
            drop_last: leave out the images that do not fill a batch: every rank then has as many batches as any
                other, which training on several ranks needs.
            bad: what to do with an image that cannot be read: `skip` it (it stands in `Batch.errors`, and a warning at
                the end of the epoch counts them), or `raise` its ImageError.
            threads: of the core, for one batch; where None, the processors of this process, shared among workers.
            prefetch: batches that a thread makes ahead while the last one is used. In a worker there is none: the
                `DataLoader` fetches ahead itself.
            rank: of this process; that of torch.distributed where None, 0 where that is not in use.
            world: number of ranks; as `rank`.

        Raises:
            UsageError: a number is out of range.
        """
        super().__init__()
        if batch_size < 1 or shuffle < 0 or prefetch < 0:
            raise UsageError("batch_size is at least 1, shuffle and prefetch at least 0")
        self.rank, self.world = _place(rank, world)
        self.images = images
        self.recipe = recipe
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.bad = _checked(bad)
        self.threads = threads
        self.prefetch = prefetch
        # The epoch, and its first batch. Workers that live on from epoch to epoch see them change.
        self._from = torch.zeros(2, dtype=torch.int64).share_memory_()
        self._given = 0
        if shuffle and len(images.blocks) < len(images.labels):
            sizes = np.diff(np.append(images.blocks, len(images.labels)))
            # A window of `shuffle` images, and the batch that reaches into the next one.
            images.resident = max(images.resident, _most_blocks(sizes, shuffle + batch_size))

    def __len__(self) -> int:
        """Batches of an epoch on this rank, those that turn out to be all bad among them."""
        count = len(self.images.labels)
        if self.drop_last:
            return count // self.world // self.batch_size
        mine = (self.rank + 1) * count // self.world - self.rank * count // self.world
        return -(-mine // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Another epoch, another order and other draws; call it before each."""
        if epoch != int(self._from[0]):
            self._from[0], self._from[1] = epoch, 0
            self._given = 0

    def state_dict(self) -> dict[str, int]:
        """Where this process stands: the epoch and the batches that were taken of it.

        The workers of a `DataLoader` are other processes: with them, count the batches that you took, and put the
        number in place of `batches`.
        """
        worker = get_worker_info()
        return {
            "epoch": int(self._from[0]),
            "batches": int(self._from[1]) + self._given * (1 if worker is None else worker.num_workers),
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on from there: the next epoch that is begun leaves out the batches that were taken."""
        self._from[0], self._from[1] = state["epoch"], state["batches"]
        self._given = 0

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        epoch, first = self._from.tolist()
        mine = order(
            self.images.blocks,
            len(self.images.labels),
            shuffle=self.shuffle,
            seed=self.recipe.seed,
            epoch=epoch,
            rank=self.rank,
            world=self.world,
        )
        threads = self.threads or max(1, _processors() // workers)

        def make(batch: int) -> Batch:
            some = mine[batch * self.batch_size :][: self.batch_size]
            return self.recipe.batch(self.images, some, epoch, threads)

        skipped: list[Bad] = []
        self._given = 0
        for made in _ahead(make, range(first + number, len(self), workers), self.prefetch if worker is None else 0):
            self._given += 1
            skipped += _tolerated(made, self.bad)
            if len(made.indices):
                yield made
        if worker is None:
            # All were taken; an epoch that is begun without `set_epoch` begins at the first.
            self._from[1], self._given = 0, max(first, len(self))
        _tell(skipped, len(mine))


class ImageDataset(Dataset[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]):
    """Images by index, for a `DataLoader` with any sampler; a batch is still one call of the core.

    Give `collate_fn=mllmrisk.torch.whole` to get a `Batch` without a copy. Without it, the samples (image, label,
    index) are stacked once more, and errors are only told by a warning.
    """

    def __init__(self, images: Images, recipe: Recipe, *, bad: OnBad = "skip", threads: int | None = None) -> None:
        """Opens nothing yet.

        Args:
            images: `files(...)`, `tars(...)` or `parquet(...)`.
            recipe: what is done to each; a crop mode that gives one row an image.
            bad: as for `ImageBatches`; of a batch that is fetched. A bad image that is asked for alone always raises.
            threads: as for `ImageBatches`.

        Raises:
            UsageError: the recipe gives several rows an image, or `bad` is neither.
        """
        if recipe.how.crop_mode == "tiles":
            raise UsageError("tiles give several rows an image: ImageBatches takes them")
        self.images = images
        self.recipe = recipe
        self.bad = _checked(bad)
        self.threads = threads
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.images.labels)

    def set_epoch(self, epoch: int) -> None:
        """Other draws of chains, crops and mirrors; the order is the sampler's affair."""
        self._epoch[0] = epoch

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        made = self._batch([index])
        if made.errors:
            _tolerated(made, "raise")
        return made.images[0], made.labels[0], made.indices[0]

    def __getitems__(self, indices: Sequence[int]) -> Samples:
        made = self._batch(indices)
        _tell(_tolerated(made, self.bad), len(indices))
        return Samples(made)

    def _batch(self, indices: Sequence[int]) -> Batch:
        wanted = np.asarray(indices, np.int64)
        count = len(self)
        if ((wanted < -count) | (wanted >= count)).any():
            raise IndexError(f"there are {count} images")
        worker = get_worker_info()
        threads = self.threads or max(1, _processors() // (1 if worker is None else worker.num_workers))
        return self.recipe.batch(self.images, wanted % count, int(self._epoch[0]), threads)


class Samples(list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]):
    """The rows of a batch as (image, label, index), and the batch itself."""

    def __init__(self, batch: Batch) -> None:
        super().__init__(zip(batch.images, batch.labels, batch.indices, strict=True))
        self.batch = batch


def whole(samples: Samples) -> Batch:
    """The batch as it was made: a `collate_fn` for `ImageDataset`."""
    return samples.batch


def _ahead(make: Callable[[int], Batch], numbers: range, depth: int) -> Iterator[Batch]:
    """What `make` gives for each number; up to `depth` are made by a thread before they are asked for."""
    if not depth:
        yield from map(make, numbers)
        return
    waiting: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(1, "mllmrisk.torch") as maker:
        try:
            for number in numbers:
                waiting.append(maker.submit(make, number))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _tolerated(batch: Batch, bad: OnBad) -> tuple[Bad, ...]:
    if batch.errors and bad == "raise":
        first = batch.errors[0]
        raise ImageError(f"{first.name}: {first.message}", first.code)
    return batch.errors


def _tell(skipped: Sequence[Bad], count: int) -> None:
    if skipped:
        reasons = ", ".join(f"{code} {n}" for code, n in Counter(bad.code for bad in skipped).most_common())
        told = f"{len(skipped)} of {count} images were left out ({reasons}); the first: {skipped[0].name}"
        warnings.warn(told, SkippedImagesWarning, stacklevel=2)


def _most_blocks(sizes: Indices, images: int) -> int:
    """How many blocks `images` images that follow each other touch at most, the blocks in any order."""
    return min(len(sizes), int(np.searchsorted(np.cumsum(np.sort(sizes)), images)) + 2)


def _checked(bad: OnBad) -> OnBad:
    if bad not in {"skip", "raise"}:
        raise UsageError(f"bad is skip or raise, not {bad}")
    return bad


def _place(rank: int | None, world: int | None) -> tuple[int, int]:
    if (rank is None) != (world is None):
        raise UsageError("rank and world go together")
    if rank is None or world is None:
        distributed: Any = torch.distributed
        there = distributed.is_available() and distributed.is_initialized()
        return (distributed.get_rank(), distributed.get_world_size()) if there else (0, 1)
    if not 0 <= rank < world:
        raise UsageError(f"rank is 0 to {world - 1}, not {rank}")
    return rank, world


def _processors() -> int:
    return len(os.sched_getaffinity(0))
