"""Forensic features: images in, an array of named statistics out, computed in Rust at native resolution.

Values depend on pixels alone, and each is finite on every image of at least 64 px a side. `describe` tells what each
family computes and where it comes from; the sets are `default` and `all`.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mllmrisk import _core
from mllmrisk.errors import ImageError

Source: TypeAlias = str | os.PathLike[str] | bytes | npt.NDArray[np.uint8]
"""A path, the bytes of an image file, or an (H, W, 3) uint8 array."""

Plain: TypeAlias = str | bytes | npt.NDArray[np.uint8]
"""What the core takes."""

BATCH = 256
_ARRAY_BYTES = 64 << 20  # arrays are copied before they are worked on: a batch of them ends here at the latest
_FLAT_RANK = 3


@dataclass(frozen=True)
class Family:
    """What one family of features is.

    Attributes:
        name: its name; its columns are named `name.column`.
        set: `default`, or `costly` for what only `all` has.
        dimension: how many values it gives.
        columns: their names, without the family's own.
        unit: unit of the values.
        formula: the formula, exactly as computed.
        source: paper or code that it comes from.
        cost: time of the family alone, with the planes that it needs and shares with others, at 512×512 on one thread,
            over that of decoding the image as a JPEG of quality 90 (1.1 ms where it was measured). None where it was
            not measured.
    """

    name: str
    set: str
    dimension: int
    columns: tuple[str, ...]
    unit: str
    formula: str
    source: str
    cost: float | None


@dataclass(frozen=True, eq=False)
class Features:
    """Features of a sequence of images.

    Attributes:
        values: (n, d) float32, a row per image in the order given; the row of an image in `errors` is all NaN, and no
            other value ever is.
        names: the d names, `family.column`.
        errors: index of an image to the reason why it gave no values (its `code` is one word).
    """

    values: npt.NDArray[np.float32]
    names: tuple[str, ...]
    errors: dict[int, ImageError]

    def __len__(self) -> int:
        return len(self.values)


def describe() -> list[Family]:
    """Every family, in the order of the feature vector."""
    return [
        Family(**{**family, "columns": tuple(family["columns"])}, cost=_COST.get(family["name"]))
        for family in _core.describe_features()
    ]


def names(features: str | Sequence[str] = "default") -> tuple[str, ...]:
    """Names of the values that `extract` gives for `features`.

    Raises:
        ValueError: a name is unknown.
    """
    return _names(tuple(_as_list(features)))


@functools.lru_cache(maxsize=32)
def _names(features: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_core.feature_names(list(features)))


def extract(
    images: Iterable[Source],
    features: str | Sequence[str] = "default",
    *,
    threads: int | None = None,
    chains: str | Iterable[str | None] | None = None,
    seed: int = 0,
) -> Features:
    """Computes features of any iterable of images; a bad image is a reason in `errors`, never an exception.

    Args:
        images: paths, bytes or (H, W, 3) uint8 arrays, read as they come: a generator works. Pixels are taken as they
            are stored (no EXIF rotation), at native resolution.
        features: a set (`default`, `all`), families (`radial`) or single columns (`radial.luma_r01`), or a list of
            such; the columns come in the order of `describe` whatever the order asked for.
        threads: how many images are worked on at once; all processors that this process may use where None. The values
            do not depend on it.
        chains: perturbations to apply before (`mllmrisk.perturb`): one chain for all images, or one per image, None for
            none.
        seed: of the random steps of chains; the i-th image draws from `seed + i`.

    Raises:
        ValueError: a feature or a chain is unknown, or there are not as many chains as images.
        TypeError: an item of `images` is none of the above.
    """
    batches = list(extract_batches(images, features, threads=threads, chains=chains, seed=seed))
    columns = names(features)
    values = [batch.values for batch in batches]
    starts = itertools.accumulate((len(batch) for batch in batches), initial=0)
    errors = {start + i: e for start, batch in zip(starts, batches, strict=False) for i, e in batch.errors.items()}
    joined = np.concatenate(values) if values else np.empty((0, len(columns)), np.float32)
    return Features(joined, columns, errors)


def extract_batches(
    images: Iterable[Source],
    features: str | Sequence[str] = "default",
    *,
    threads: int | None = None,
    chains: str | Iterable[str | None] | None = None,
    seed: int = 0,
    batch: int = BATCH,
) -> Iterator[Features]:
    """Like `extract`, a batch of images at a time, for streams that do not fit in memory.

    Args:
        images: as for `extract`.
        features: as for `extract`.
        threads: as for `extract`.
        chains: as for `extract`.
        seed: as for `extract`.
        batch: images per result, fewer where arrays are large; `errors` counts from the start of its batch.

    Raises:
        ValueError: a feature is unknown, or `batch` or `threads` is less than 1.
    """
    selected = _as_list(features)
    columns = names(selected)
    threads = _threads(threads)
    if batch < 1:
        raise ValueError(f"batch ({batch}) must be at least 1")
    if isinstance(images, str | bytes | os.PathLike) or getattr(images, "ndim", 0) == _FLAT_RANK:
        raise TypeError("images must be an iterable of images; put a single one into a list")
    if chains is None or isinstance(chains, str):
        pairs = zip(images, itertools.repeat(chains), strict=False)
    else:
        pairs = zip(images, chains, strict=True)
    return _batches(pairs, selected, columns, threads, batch, seed)


def extract_chains(
    images: Sequence[Source],
    chains: Sequence[Sequence[str | None]],
    features: str | Sequence[str] = "default",
    *,
    threads: int | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Features]:
    """Features of each image under several perturbation chains, for one reading and decoding of each image.

    The same values as one call of `extract` per chain gives, bit for bit. Chains that begin alike share that work too.

    Args:
        images: as for `extract`, as many as are worked on at once (arrays are copied).
        chains: the chains of each image, as many for every one; None for none.
        features: as for `extract`.
        threads: as for `extract`.
        seeds: of the random steps of each image's chains; 0, 1, 2, ... where None.

    Returns:
        One result per position in `chains`, a row per image.

    Raises:
        ValueError: a feature or a chain is unknown, or images have not as many chains (or seeds) as others.
        TypeError: an item of `images` is no image.
    """
    selected = _as_list(features)
    columns = names(selected)
    threads = _threads(threads)
    own_seeds = list(range(len(images)) if seeds is None else seeds)
    values, failures = _core.extract_chains(
        [_plain(image) for image in images], selected, threads, [list(own) for own in chains], own_seeds
    )
    errors: list[dict[int, ImageError]] = [{} for _ in values]
    for position, index, code, message in failures:
        errors[position][index] = ImageError(message, code)
    return [Features(of_chain, columns, wrong) for of_chain, wrong in zip(values, errors, strict=True)]


def _threads(asked: int | None) -> int:
    threads = len(os.sched_getaffinity(0)) if asked is None else asked
    if threads < 1:
        raise ValueError(f"threads ({threads}) must be at least 1")
    return threads


def _batches(
    pairs: Iterable[tuple[Source, str | None]],
    selected: list[str],
    columns: tuple[str, ...],
    threads: int,
    batch: int,
    seed: int,
) -> Iterator[Features]:
    start = 0
    for chunk in _chunks(pairs, batch):
        sources, chains = [source for source, _ in chunk], [chain for _, chain in chunk]
        values, failures = _core.extract(sources, selected, threads, chains, seed + start)
        errors = {index: ImageError(message, code) for index, code, message in failures}
        yield Features(values, columns, errors)
        start += len(chunk)


def _chunks(pairs: Iterable[tuple[Source, str | None]], batch: int) -> Iterator[list[tuple[Plain, str | None]]]:
    chunk: list[tuple[Plain, str | None]] = []
    array_bytes = 0
    for image, chain in pairs:
        chunk.append((_plain(image), chain))
        array_bytes += getattr(image, "nbytes", 0)
        if len(chunk) == batch or array_bytes >= _ARRAY_BYTES:
            yield chunk
            chunk, array_bytes = [], 0
    if chunk:
        yield chunk


def _plain(image: Source) -> Plain:
    """A UTF-8 path, bytes or an array."""
    if isinstance(image, np.ndarray | bytes):
        return image
    path = os.fspath(image)
    try:
        path.encode()
    except UnicodeEncodeError:  # a path that is not UTF-8 is read here: the core knows only text
        try:
            return Path(path).read_bytes()
        except OSError:  # the core will say that there is no such file
            return path.encode(errors="replace").decode()
    return path


def _as_list(features: str | Sequence[str]) -> list[str]:
    return [features] if isinstance(features, str) else list(features)


_COST = {
    "block_dct": 0.6,
    "benford": 0.6,
    "radial": 0.6,
    "angular": 0.6,
    "autocorrelation": 0.4,
    "synthbuster8": 0.3,
    "synthbuster16": 0.3,
    "srm3": 0.4,
    "directional": 0.3,
    "cooccurrence": 0.3,
    "npr": 0.1,
    "texture": 0.3,
    "cross_channel": 0.2,
    "cfa": 0.1,
    "bits": 0.1,
    "grid": 0.1,
    "srm30": 1.6,
    "ghost": 0.5,
    "ela": 0.3,
    "cfa_em": 1.0,
    "glcm": 1.0,
    "aide": 0.6,
    "phase": 0.8,
    "ternary": 0.5,
    "ternary_residual": 0.7,
}
