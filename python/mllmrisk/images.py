"""Image files: pixels, and what the container says of itself.

Pixels are those that are stored, as `docs/formats.md` defines them for every format and mode; JPEG, PNG and WebP equal
Pillow's bit for bit. Both functions work outside the interpreter, so threads run them side by side.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from mllmrisk import _core
from mllmrisk.errors import ImageError
from mllmrisk.preprocessing import Preprocessing as Preprocessing

Source: TypeAlias = bytes | bytearray | memoryview | str | os.PathLike[str]


class Limits(NamedTuple):
    """What an input may ask for at most; more is an `ImageError` with code `limit`, before anything is allocated."""

    bytes: int = 1 << 30
    """Bytes of the file."""
    pixels: int = 178_956_970
    """Width x height; the default is where Pillow refuses a decompression bomb."""
    memory: int = 4 << 30
    """Bytes that decoding takes: the pixels and the decoder's own buffers."""


class Text(NamedTuple):
    """A text that a container carries."""

    key: str
    """The keyword of a PNG text chunk; `comment` for JPEG and GIF."""
    value: str
    """The text, cut at 4 kB."""
    bytes: int
    """Bytes of the whole text as stored."""


@dataclass(frozen=True, slots=True)
class Container:
    """The facts of an image file; no pixel was decoded to learn them."""

    format: str
    """`JPEG`, `PNG`, `WebP`, `GIF`, `BMP` or `TIFF`: what the bytes are, whatever the name says."""
    width: int
    """Pixels, as stored."""
    height: int
    """Pixels, as stored."""
    bytes: int
    """Size of the file."""
    mode: str
    """`grey`, `rgb`, `palette`, `cmyk` or `other`."""
    channels: int
    """Stored channels, alpha too."""
    bit_depth: int
    """Bits a channel; of a palette, bits an index."""
    alpha: bool
    """Whether there is an alpha channel or a transparent colour."""
    progressive: bool
    """Progressive JPEG, interlaced PNG or GIF."""
    lossy: bool
    """Whether its coding loses detail (JPEG, VP8)."""
    frames: int
    """Frames of an animation; 1 for a still image."""
    quantisation: tuple[tuple[int, ...], ...]
    """JPEG quantisation tables by their number: 64 values each, row by row."""
    subsampling: str | None
    """JPEG chroma subsampling: `4:4:4`, `4:2:2`, `4:2:0`, ...; None for one channel."""
    quality: int | None
    """The IJG quality (1 to 100) whose standard tables are nearest."""
    quality_exact: bool
    """Whether the tables are exactly the IJG ones of that quality."""
    jfif: bool
    """Whether a JPEG has a JFIF segment."""
    adobe: bool
    """Whether a JPEG has an Adobe segment."""
    arithmetic: bool
    """Whether a JPEG's entropy coding is arithmetic."""
    exif: bool
    """Whether there is an EXIF block."""
    make: str | None
    """The camera's maker."""
    model: str | None
    """The camera's model."""
    software: str | None
    """The software that EXIF or a text chunk names."""
    orientation: int | None
    """EXIF orientation, 1 to 8."""
    icc: bool
    """Whether there is an ICC profile (it is never applied)."""
    xmp: bool
    """Whether there is an XMP packet."""
    c2pa: bool
    """Whether there is a C2PA manifest: present, not verified."""
    ai_source_type: bool
    """Whether XMP or the manifest names the IPTC source type `trainedAlgorithmicMedia`, alone or composite."""
    generation_parameters: bool
    """Whether some text holds a generator's parameters (prompt, workflow, sampler)."""
    texts: tuple[Text, ...]
    """Text chunks and comments; at most 64."""

    @property
    def animated(self) -> bool:
        """Whether there is more than one frame."""
        return self.frames > 1

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the file per pixel of the image."""
        return 8 * self.bytes / (self.width * self.height)


def decode(source: Source, *, orient: bool = False, limits: Limits | None = None) -> npt.NDArray[np.uint8]:
    """Decodes an image file.

    Args:
        source: the file's bytes, or its path.
        orient: turn the image as its EXIF orientation says. Judges and people need that; forensics must not have it.
        limits: what the input may ask for; `Limits()` if none.

    Returns:
        `(height, width, 3)` uint8, RGB, owned by the array.

    Raises:
        ImageError: the input gives no image; `code` says why in one word.
    """
    return _core.decode(_plain(source), orient, limits)


class Coefficients(NamedTuple):
    """The quantised DCT coefficients of one colour component, as a JPEG file stores them."""

    values: npt.NDArray[np.int16]
    """`(blocks_y, blocks_x, 8, 8)`: block, vertical frequency, horizontal frequency; `[..., 0, 0]` is the DC."""
    quantisation: npt.NDArray[np.uint16]
    """`(8, 8)` steps: `values * quantisation` is the orthonormal DCT of the samples (0 to 255) less 128."""
    sampling: tuple[int, int]
    """Horizontal and vertical sampling factors: `(2, 2)` of luma beside `(1, 1)` of chroma is 4:2:0."""


def dct_coefficients(source: Source, *, limits: Limits | None = None) -> list[Coefficients]:
    """Reads the DCT coefficients of a JPEG file; no pixel is decoded.

    They tell how a file was compressed: a second compression, a spliced region, the tables of a camera. Whether it was
    compressed they tell too: a detector whose real images are JPEG and whose generated ones were PNG learns the
    format from them and nothing else. Forensic features must not start here unless all images have passed the same
    chain (`mllmrisk.perturb`).

    Args:
        source: the file's bytes, or its path.
        limits: what the input may ask for; `Limits()` if none. Memory is 4 bytes a coefficient.

    Returns:
        The components in the file's order: Y, Cb, Cr; Y alone; or the four of CMYK. Blocks that only pad an MCU are
        left out; those that only the edge of the image touches are whole.

    Raises:
        ImageError: the input is no JPEG (`unsupported`), or gives no image; `code` says why in one word.
    """
    return [Coefficients(*component) for component in _core.dct_coefficients(_plain(source), limits)]


def probe(source: Source, *, limits: Limits | None = None) -> Container:
    """Reads what a container says of itself, without decoding a pixel.

    Broken metadata are left out, never an error: an image that decodes can be probed.

    Args:
        source: the file's bytes, or its path.
        limits: only `limits.bytes` matters here: a header costs no memory, even a bomb's.

    Raises:
        ImageError: the input is no image, or its header is broken.
    """
    facts: dict[str, Any] = _core.probe(_plain(source), limits)
    facts["quantisation"] = tuple(tuple(table) for table in facts["quantisation"])
    facts["texts"] = tuple(Text(*text) for text in facts["texts"])
    return Container(**facts)


def resize(pixels: npt.NDArray[np.uint8], width: int, height: int, kernel: str = "bicubic") -> npt.NDArray[np.uint8]:
    """Resamples an image; the pixels equal Pillow's, with its antialiasing.

    Args:
        pixels: `(height, width, 3)` uint8.
        width: the new width.
        height: the new height.
        kernel: `box`, `bilinear`, `bicubic` or `lanczos`.

    Returns:
        `(height, width, 3)` uint8.

    Raises:
        ValueError: a size of 0, or an unknown kernel.
    """
    return _core.resize(pixels, width, height, kernel)


class Statistic(NamedTuple):
    """What a statistic of `statistics` is."""

    name: str
    unit: str
    formula: str
    """Exactly as computed."""
    source: str
    """Paper or code that it comes from."""


STATISTICS = tuple(Statistic(*about) for about in _core.describe_statistics())
"""Every statistic, in the order of its columns."""


class Statistics(NamedTuple):
    """Statistics of a sequence of images.

    They tell a broken picture (blank, flat, noise, tiles) from a sound one, and say nothing of who made it.
    """

    names: tuple[str, ...]
    """The k names of `STATISTICS`."""
    values: npt.NDArray[np.float32]
    """(n, k), a row per image in the order given; the row of an image in `errors` is all NaN, and no other value is."""
    hashes: npt.NDArray[np.uint64]
    """(n,) perceptual hashes, see `hash_distance`; 0 for an image in `errors`."""
    errors: dict[int, ImageError]
    """Index of an image to the reason why it gave none."""


def statistics(sources: Iterable[Source | npt.NDArray[np.uint8]], *, threads: int | None = None) -> Statistics:
    """Measures images, at their stored size, pixels as they are stored.

    Args:
        sources: paths, bytes or (H, W, 3) uint8 arrays of at least 64 px a side.
        threads: how many images are worked on at once; all processors that this process may use where None. The
            values do not depend on it.

    Raises:
        ValueError: `threads` is less than 1.
        TypeError: a source is none of the above.
    """
    values, hashes, failures = _core.statistics([_raw(source) for source in sources], _threads(threads))
    errors = {index: ImageError(message, code) for index, code, message in failures}
    return Statistics(tuple(about.name for about in STATISTICS), values, hashes, errors)


def hash_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """In how many of their 64 bits perceptual hashes differ, broadcast as NumPy does.

    The hash is the signs, against their median, of the 8x8 lowest frequencies of the DCT of the 32x32 means of luma
    (Zauner 2010; the package ImageHash). A few bits for one picture that was resized or compressed again, some 32 for
    two that have nothing in common.

    Args:
        a: uint64 hashes.
        b: uint64 hashes.
    """
    x: npt.NDArray[np.uint64] = np.bitwise_xor(np.asarray(a, np.uint64), np.asarray(b, np.uint64))
    # Sums of bits in pairs, fours and bytes, side by side (Warren, Hacker's Delight, 5-1).
    odd, pairs, fours = (np.uint64(0x0101010101010101 * byte) for byte in (0x55, 0x33, 0x0F))
    x = x - ((x >> np.uint64(1)) & odd)
    x = (x & pairs) + ((x >> np.uint64(2)) & pairs)
    x = (x + (x >> np.uint64(4))) & fours
    for shift in (8, 16, 32):
        x = x + (x >> np.uint64(shift))
    return np.asarray(x & np.uint64(0x7F), np.uint8)


def near_duplicates(hashes: npt.ArrayLike, distance: int, groups: npt.ArrayLike | None = None) -> npt.NDArray[np.int64]:
    """Pairs of images whose hashes differ in at most `distance` bits.

    Args:
        hashes: (n,) uint64, of `statistics`.
        distance: bits, 0 to 64.
        groups: (n,) int64; pairs within one group are left out.

    Returns:
        (k, 2) int64 indices i < j, ascending.

    Raises:
        ValueError: as many groups as hashes are wanted; or more than 2^24 pairs were found.
    """
    codes = np.ascontiguousarray(hashes, np.uint64)
    return _core.near_duplicates(codes, distance, None if groups is None else np.ascontiguousarray(groups, np.int64))


class Prepared(NamedTuple):
    """Rows of a network's input."""

    values: npt.NDArray[np.float32]
    """(m, 3, h, w), (m, h, w, 3) or, of `patches`, (m, 4, 3, 256, 256); C-contiguous, ready for the network."""
    rows: npt.NDArray[np.int64]
    """(m,) index of the source of each row, ascending; a source in `errors` has none."""
    errors: dict[int, ImageError]
    """Index of a source to the reason why it gave no row."""


class View(NamedTuple):
    """Where one image is cut, and whether it is turned over; by itself, what `Preprocessing` does anyway."""

    at: tuple[float, float] | None = None
    """Fractions of the free (rows, columns) that lie before the crop, from 0 up to 1, 1 left out: drawn uniformly, they
    make every place equally likely. A side that is padded stays in the middle. None: the place of the crop mode."""
    mirrored: bool = False
    """Whether left and right change places."""


def prepare(
    sources: Sequence[Source | npt.NDArray[np.uint8]],
    how: Preprocessing,
    *,
    chains: Sequence[str | None] | None = None,
    threads: int | None = None,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    views: Sequence[View] | None = None,
    partial: bool = False,
) -> Prepared:
    """Makes a network's input of images: decoded, perturbed, resized, cropped and normalised outside the interpreter.

    Args:
        sources: paths, bytes or (H, W, 3) uint8 arrays; pixels as they are stored (no EXIF rotation).
        how: see `Preprocessing`. With crop_mode `full`, the sources of a call must have one size.
        chains: a perturbation chain (`mllmrisk.perturb`) or None for each source, applied first.
        threads: how many images are worked on at once, and held in memory; all processors that this process may use
            where None. The values do not depend on it.
        seed: of the random steps of chains; the i-th source draws from `seed + i`.
        seeds: one for each source, 0 to 2^64 - 1, in place of `seed + i`.
        views: one for each source; with a crop mode that gives one row an image (not `tiles` and `full`).
        partial: decode (and take through the JPEG steps of a chain) only what the crop needs of a JPEG file: the same
            values in less time. A file that is cut is an error as ever, but other damage below the crop is not seen.

    Raises:
        ValueError: `how`, `chains`, `views` or `threads` cannot be, or the sizes of a `full` call differ.
        TypeError: a source is none of the above.
    """
    plain = [_raw(source) for source in sources]
    found = _core.prepare(plain, how, _threads(threads), chains, seed, seeds, views, partial)
    values, (height, width), rows, failures = found
    shape = (3, height, width) if how.layout == "NCHW" else (height, width, 3)
    return _prepared(values, shape, rows, failures)


def patches(
    sources: Sequence[Source | npt.NDArray[np.uint8]],
    *,
    chains: Sequence[str | None] | None = None,
    threads: int | None = None,
    seed: int = 0,
) -> Prepared:
    """The patches of images that the detector AIDE looks at, chosen by the texture of 32x32 windows at stride 16.

    A window's grade is the sum over channels of the grade that the feature family `aide` describes. The four of an
    image are those of the lowest, highest, second lowest and second highest grade, the order of the authors' network;
    each enlarged to 256x256 (bilinear) and normalised as (pixel / 255 - mean) / std with ImageNet's mean and std.

    Args:
        sources: as for `prepare`, at least 32 px a side.
        chains: as for `prepare`.
        threads: as for `prepare`.
        seed: as for `prepare`.

    Returns:
        Values (m, 4, 3, 256, 256), one row per source.
    """
    found = _core.patches([_raw(source) for source in sources], _threads(threads), chains, seed)
    values, (height, width), rows, failures = found
    return _prepared(values, (4, 3, height, width), rows, failures)


def _prepared(
    values: npt.NDArray[np.float32],
    shape: tuple[int, ...],
    rows: npt.NDArray[np.int64],
    failures: list[tuple[int, str, str]],
) -> Prepared:
    errors = {index: ImageError(message, code) for index, code, message in failures}
    return Prepared(values.reshape(len(rows), *shape), rows, errors)


def _threads(threads: int | None) -> int:
    threads = len(os.sched_getaffinity(0)) if threads is None else threads
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    return threads


def _raw(source: Source | npt.NDArray[np.uint8]) -> bytes | str | npt.NDArray[np.uint8]:
    return source if isinstance(source, np.ndarray) else _plain(source)


def _plain(source: Source) -> bytes | str:
    """The two kinds that the core takes: bytes that nobody can change meanwhile, or a path."""
    if isinstance(source, bytes):
        return source
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    return os.fspath(source)


def build_info() -> dict[str, Any]:
    """How the compiled core was built: version, profile, SIMD of the JPEG decoder, versions of its libraries."""
    return dict(_core.build_info())
