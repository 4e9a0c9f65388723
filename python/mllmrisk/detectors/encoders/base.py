"""What an encoder is: image → vector. It is frozen: a probe learns on its vectors and leaves it as it is.

A vector is the same in any company and on any number of threads: on a CPU each image goes through the network alone, in
one thread; on a GPU every call has the same number of rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk import images
from mllmrisk.detectors.recipe import Input
from mllmrisk.errors import UsageError
from mllmrisk.images import Preprocessing

Array = NDArray[np.float32]


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that every encoder's TOML has, whatever its kind.

    Attributes:
        name: its name in `probe:NAME`.
        kind: which adapter runs it: a name of `encoders.KINDS`.
        about: what its vectors tell apart, and what they cannot.
        licence: of the weights, as their owner states it.
        restrictions: a use that the licence forbids, in a sentence; empty if none.
        citation: paper or model card.
        input: how pixels become its input; one crop per image. `batch` counts on a GPU alone.
        normalise: whether vectors are brought to length 1.
    """

    name: str
    kind: str = "onnx"
    about: str
    licence: str
    restrictions: str = ""
    citation: str
    input: Input
    normalise: bool = False

    def __post_init__(self) -> None:
        """Refuses an input that has not one shape, or gives several rows per image."""
        if self.input.crop_mode in ("tiles", "full"):
            raise ValueError(f"an encoder looks at one crop of one size, not crop_mode {self.input.crop_mode!r}")


class Embedded(NamedTuple):
    """Vectors of some images.

    Attributes:
        values: (n, d) float32; the row of an image in `errors` is NaN.
        errors: why an image has no vector, in one word, by index.
    """

    values: Array
    errors: dict[int, str]


class Graph(NamedTuple):
    """An encoder as an ONNX model.

    Attributes:
        model: `onnx.ModelProto`, free to be changed by the caller.
        input, output: names; (n, 3, h, w) or (n, h, w, 3) float32, and (n, d) float32, not normalised.
    """

    model: Any
    input: str
    output: str


class Encoder(Protocol):
    """Images → vectors.

    Attributes:
        name: as registered.
        version: digest of everything that decides a vector: weights, preprocessing, pooling, normalisation.
        dimension: d.
        about: its TOML's head.
        batch: rows per call of the network.
    """

    name: str
    version: str
    dimension: int
    about: Common
    batch: int

    def embed(
        self, images: Sequence[Path | bytes], *, chains: Sequence[str] | None = None, threads: int | None = None
    ) -> Embedded:
        """Embeds images, each after its perturbation chain; `threads` of all processors where None."""
        ...

    def graph(self) -> Graph:
        """The network as an ONNX model.

        Raises:
            MissingExtraError: a package that writes it is not installed.
        """
        ...


class EncoderKind(Protocol):
    """What the table of kinds holds: makes an encoder of that kind from its TOML."""

    def __call__(self, table: dict[str, Any], folder: Path, *, device: str) -> Encoder:
        """Loads the encoder.

        Args:
            table: the whole TOML.
            folder: where the TOML is; relative paths in it start there.
            device: `auto`, `cpu`, `cuda` or `cuda:INDEX`.

        Raises:
            UsageError: the TOML or what it names is wrong, or the weights are not there.
            MissingExtraError: a package is not installed.
        """
        ...


class EncoderClass(Protocol):
    """What a registry entry is: a class (or a function) that makes an encoder ready to embed."""

    def __call__(self, *, device: str = "cpu") -> Encoder:
        """Loads the encoder on `auto`, `cpu`, `cuda` or `cuda:INDEX`."""
        ...


def embedded(
    run: Callable[[Array], Array],
    sources: Sequence[Path | bytes],
    chains: Sequence[str] | None,
    threads: int | None,
    *,
    how: Preprocessing,
    dimension: int,
    batch: int,
    normalise: bool,
    starting: Callable[[], object] | None = None,
) -> Embedded:
    """Runs an encoder over images.

    Args:
        run: (batch, ...) prepared pixels to (batch, d) vectors; called from several threads.
        sources: paths or encoded bytes.
        chains: perturbation chains, one per image, applied to the decoded pixels first.
        threads: all processors where None; vectors do not depend on it.
        how: preprocessing.
        dimension: d.
        batch: rows per call; the last call is filled up with copies. With one row, `threads` images are on their way
            at once; with more, one call is prepared by `threads` while another runs.
        normalise: brings vectors to length 1.
        starting: called once in each thread before its first `run`.

    Raises:
        ValueError: fewer than one thread, or not one chain per image.
    """
    if chains is not None and len(chains) != len(sources):
        raise ValueError(f"{len(chains)} chains for {len(sources)} images")
    count = len(os.sched_getaffinity(0)) if threads is None else threads
    if count < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    workers, each = (count, 1) if batch == 1 else (2, count)

    def part(start: int) -> tuple[dict[int, Array], dict[int, str]]:
        some = list(sources[start : start + batch])
        own = None if chains is None else list(chains[start : start + batch])
        prepared = images.prepare(some, how, chains=own, threads=each)
        reasons = {start + i: error.code for i, error in prepared.errors.items()}
        rows = prepared.values
        if not len(rows):
            return {}, reasons
        filled = np.concatenate([rows, np.repeat(rows[:1], batch - len(rows), axis=0)]) if len(rows) < batch else rows
        vectors = run(filled)[: len(rows)]
        if normalise:
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        found = {start + int(i): vector for i, vector in zip(prepared.rows, vectors, strict=True)}
        odd = [i for i, vector in found.items() if not np.isfinite(vector).all()]
        return {i: found[i] for i in found if i not in odd}, reasons | dict.fromkeys(odd, "not_finite")

    values = np.full((len(sources), dimension), np.nan, np.float32)
    errors: dict[int, str] = {}
    with ThreadPoolExecutor(workers, initializer=starting) as pool:
        for vectors, reasons in pool.map(part, range(0, len(sources), batch)):
            errors.update(reasons)
            for i, vector in vectors.items():
                values[i] = vector
    return Embedded(values, errors)


def tried(run: Callable[[Array], Array], how: Preprocessing, batch: int, what: str) -> int:
    """The dimension d, from one call on generated pixels.

    Raises:
        UsageError: the network does not give (batch, d) finite numbers.
    """
    picture = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    rows = images.prepare([picture], how, threads=1).values
    vectors = run(np.repeat(rows, batch, axis=0))
    if vectors.ndim != 2 or len(vectors) != batch or not np.isfinite(vectors).all():
        raise UsageError(f"{what}: an embedding is ({batch}, d) finite numbers, not an array of {vectors.shape}")
    return int(vectors.shape[1])
