"""`mllmrisk.torch` against torchvision and Pillow in `DataLoader` workers: an epoch of photographs, equal batches.

512x512 JPEG (quality 90) files to float32 batches of 32 rows of 224x224, normalised. Both sides may use the same number
of processes or threads: k workers of theirs against k threads of ours in the training process (the way that the docs
recommend), and against k workers of ours. Workers are started before the clock is.
"""

from __future__ import annotations

import atexit
import functools
import io
import shutil
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info
from torchvision.transforms import v2

import mllmrisk.torch as data
from mllmrisk import perturb
from mllmrisk.images import Preprocessing

sys.path.insert(0, str(Path(__file__).parent))

import comparison
from comparison import Row
from end_to_end_decode import photograph

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROUNDS = 7
COUNT = 128
BATCH = 32
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WORKERS = (0, 1, 2)


def jpeg_by_pillow(picture: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=75)
    return Image.open(buffer)


_TAIL = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
CROP = Preprocessing(crop_mode="centre", size=(224, 224), mean=MEAN, std=STD)
RESIZE = Preprocessing(crop_mode="short", resize=256, size=(224, 224), interpolation="bilinear", mean=MEAN, std=STD)
#: Of images per second at equal workers.
GOAL = 3.0
#: What is done to each image: theirs, ours.
PIPELINES = {
    "crop 224": (v2.Compose([v2.CenterCrop(224), *_TAIL]), data.Recipe(CROP)),
    "resize 256, crop 224": (v2.Compose([v2.Resize(256), v2.CenterCrop(224), *_TAIL]), data.Recipe(RESIZE)),
    "jpeg:75, crop 224": (
        v2.Compose([jpeg_by_pillow, v2.CenterCrop(224), *_TAIL]),
        data.Recipe(CROP, chains="jpeg:75"),
    ),
    "random crop 224, mirror": (
        v2.Compose([v2.RandomCrop(224), v2.RandomHorizontalFlip(), *_TAIL]),
        data.Recipe(CROP, random_crop=True, mirror=0.5),
    ),
}


class Stored(NamedTuple):
    """One set of photographs in three forms."""

    paths: list[Path]
    tar: Path
    parquet: Path


@functools.cache
def stored() -> Stored:
    folder = Path(tempfile.mkdtemp(prefix="mllmrisk-loader-"))
    atexit.register(shutil.rmtree, folder)
    base = photograph(1024)
    contents = []
    for i in range(COUNT):
        top, left = 64 * (i // 16), 32 * (i % 16)
        contents.append(perturb.encode(np.ascontiguousarray(base[top : top + 512, left : left + 512]), "jpeg:90"))
    paths = [folder / f"{i:04}.jpg" for i in range(COUNT)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for path in paths:
            tar.add(path, path.name)
    pq.write_table(pa.table({"image": contents}), folder / "shard.parquet", row_group_size=64, compression="none")
    return Stored(paths, folder / "shard.tar", folder / "shard.parquet")


class PillowFiles(Dataset):
    """The usual map-style dataset."""

    def __init__(self, paths: list[Path], transform: Callable) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.paths[index]) as picture:
            return self.transform(picture.convert("RGB")), index


class PillowStream(IterableDataset):
    """A tar or a Parquet file read in order; workers take images in turn."""

    def __init__(self, contents: Callable[[], Iterable[bytes]], transform: Callable) -> None:
        self.contents, self.transform = contents, transform

    def __iter__(self) -> Iterator[tuple[torch.Tensor, int]]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for index, content in enumerate(self.contents()):
            if index % step == first:
                yield self.transform(Image.open(io.BytesIO(content)).convert("RGB")), index


def tar_contents() -> Iterator[bytes]:
    with tarfile.open(stored().tar, "r|") as tar:
        for member in tar:
            yield tar.extractfile(member).read()


def parquet_contents() -> Iterator[bytes]:
    file = pq.ParquetFile(stored().parquet)
    for group in range(file.num_row_groups):
        yield from file.read_row_group(group, use_threads=False).column("image").to_pylist()


def ours(stored: data.Images, recipe: data.Recipe, workers: int, threads: int) -> DataLoader:
    batches = data.ImageBatches(stored, recipe, BATCH, threads=threads)
    return DataLoader(batches, batch_size=None, num_workers=workers, persistent_workers=workers > 0)


def theirs(dataset: Dataset, workers: int) -> DataLoader:
    return DataLoader(dataset, BATCH, num_workers=workers, persistent_workers=workers > 0)


def epoch(loader: DataLoader) -> None:
    rows = sum(len(batch[0]) for batch in loader)
    if rows != COUNT:
        raise AssertionError(f"{rows} rows of {COUNT}")


def by_index(loader: DataLoader) -> torch.Tensor:
    """Every row of an epoch, in the order of the images."""
    found = [(b.images, b.indices) if isinstance(b, data.Batch) else (b[0], b[1]) for b in loader]
    indices = torch.cat([numbers for _, numbers in found])
    return torch.cat([pixels for pixels, _ in found])[indices.argsort()]


def compared(
    work: str, given: data.Images, recipe: data.Recipe, baseline: Dataset, *, chance: bool = False
) -> list[Row]:
    """The rows of one kind of work; nothing is timed that is not equal (where no chance is in it)."""
    if not chance and not torch.equal(by_index(ours(given, recipe, 0, 2)), by_index(theirs(baseline, 0))):
        raise AssertionError(f"{work}: not the same batches")
    found = []
    for workers in WORKERS:
        sides = {f"{max(workers, 1)} thread(s)": ours(given, recipe, 0, max(workers, 1))}
        if workers:
            sides[f"{workers} worker(s)"] = ours(given, recipe, workers, 1)
        baselines = theirs(baseline, workers)
        calls = [functools.partial(epoch, side) for side in (*sides.values(), baselines)]
        *mine, other = comparison.interleaved(*calls, rounds=ROUNDS, clock=time.perf_counter)
        for name, taken in zip(sides, mine, strict=True):
            found.append(
                Row(f"{work}, {name}", f"torchvision, Pillow, {workers} workers", taken / COUNT, other / COUNT, GOAL)
            )
    return found


def rows() -> list[Row]:
    """Every comparison, milliseconds of wall time an image; raises where the results are not the same."""
    torch.set_num_threads(1)
    at = stored()
    files = data.files(at.paths)
    found = []
    for name, (transform, recipe) in PIPELINES.items():
        chance = "random" in name
        found += compared(f"files, {name}", files, recipe, PillowFiles(at.paths, transform), chance=chance)
    transform, recipe = PIPELINES["crop 224"]
    found += compared("tar, crop 224", data.tars(at.tar), recipe, PillowStream(tar_contents, transform))
    found += compared("Parquet, crop 224", data.parquet(at.parquet), recipe, PillowStream(parquet_contents, transform))
    return found


if __name__ == "__main__":
    comparison.say(rows())
