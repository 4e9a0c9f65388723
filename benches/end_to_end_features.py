"""Features against the NumPy/SciPy twins of the tests, the usual radial spectrum, and the decode of the same image.

One process, one thread each, interleaved, checked equal: 512×512 px of photographs, in batches for ours.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg
from PIL import Image

from mllmrisk import features, images, perturb

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "oracle" / "features"))
sys.path.insert(0, str(Path(__file__).parent))

from twins import default_vector

import comparison
from comparison import Row
from end_to_end_decode import photograph

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE = 512
#: Images per call of ours: the library is made for many, and the first of a call sets up its buffers.
BATCH = 16
ROUNDS = 15
#: The twins take seconds a call.
TWIN_ROUNDS = 7

#: Sides, and in how many decodes of the image the `default` set is to be had.
DECODES = {512: 1.0, 1024: 1.5}


def interleaved(*calls: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """Median CPU milliseconds of each call, taken in turn."""
    return comparison.interleaved(*calls, rounds=rounds)


def ours(source: bytes | np.ndarray, chosen: str, count: int = 1) -> np.ndarray:
    """(count, d) features of `count` copies of an image, on one thread."""
    found = features.extract([source] * count, chosen, threads=1)
    if found.errors:
        raise found.errors[0]
    return found.values


def batched(source: bytes | np.ndarray, chosen: str) -> Callable[[], object]:
    """A call of ours for a batch; its time is divided by `BATCH`."""
    return lambda: ours(source, chosen, BATCH)


def usual_radial(data: bytes) -> np.ndarray:
    """The radial spectrum as scripts compute it: Pillow, mode L, one transform of the whole image, means over rings."""
    luma = np.asarray(Image.open(io.BytesIO(data)).convert("L"), dtype=np.float64)
    power = 20 * np.log(np.abs(np.fft.fftshift(np.fft.fft2(luma))) + 1e-8)
    y, x = np.indices(luma.shape)
    ring = np.hypot(y - luma.shape[0] // 2, x - luma.shape[1] // 2).astype(int).ravel()
    return np.bincount(ring, power.ravel()) / np.bincount(ring)


def rows() -> list[Row]:
    """Every comparison; raises where a family is not equal to its twin."""
    data = perturb.encode(photograph(SIDE), "jpeg:90")
    pixels = images.decode(data)
    np.testing.assert_allclose(ours(pixels, "default")[0], default_vector(pixels), rtol=1e-4, atol=2e-5)
    default, twin = interleaved(batched(pixels, "default"), lambda: default_vector(pixels), rounds=TWIN_ROUNDS)
    radial, usual = interleaved(batched(data, "radial"), lambda: usual_radial(data))
    return [
        Row(f"`default` set, {SIDE}x{SIDE} pixels", "NumPy + SciPy twins", default / BATCH, twin),
        Row(f"JPEG file to radial spectrum, {SIDE}x{SIDE}", "usual Pillow + NumPy one", radial / BATCH, usual),
        *(row for side in DECODES for row in decode_rows(side)),
    ]


def decode_rows(side: int) -> list[Row]:
    """Sets over the decode of the same image: libjpeg-turbo's as it comes, and ours, which is faster."""
    data = perturb.encode(photograph(side), "jpeg:90")
    pixels = images.decode(data)
    np.testing.assert_array_equal(simplejpeg.decode_jpeg(data), pixels)
    works = {
        f"`default` set, {side}x{side} pixels": (pixels, "default", 1 / DECODES[side]),
        f"set `all`, {side}x{side} pixels": (pixels, "all", 1 / 10),
        f"JPEG file to `default` set, {side}x{side}": (data, "default", None),
    }
    calls = [batched(source, chosen) for source, chosen, _ in works.values()]
    plain = batch_of(lambda: simplejpeg.decode_jpeg(data))
    turbo, decode, *each = interleaved(plain, decoding(data), *calls, rounds=ROUNDS)
    made = []
    for (work, (_, _, goal)), taken in zip(works.items(), each, strict=True):
        made.append(Row(work, "decode by libjpeg-turbo (simplejpeg), q90", taken / BATCH, turbo / BATCH, goal))
        made.append(Row(work, "our decode of that image", taken / BATCH, decode / BATCH))
    return made


def batch_of(call: Callable[[], object]) -> Callable[[], object]:
    """A call as often as a batch has images."""
    return lambda: [call() for _ in range(BATCH)]


def decoding(data: bytes) -> Callable[[], object]:
    """As many decodes as a batch has images."""
    return batch_of(lambda: images.decode(data))


def family_costs() -> list[tuple[str, int, float, float]]:
    """(family, numbers, ms, decodes) of each family alone, shared work included."""
    data = perturb.encode(photograph(SIDE), "jpeg:90")
    pixels = images.decode(data)
    named = [(family.name, family.dimension) for family in features.describe()]
    decode, *each = interleaved(decoding(data), *(batched(pixels, name) for name, _ in named), rounds=TWIN_ROUNDS)
    return [(name, width, ms / BATCH, ms / decode) for (name, width), ms in zip(named, each, strict=True)]


if __name__ == "__main__":
    comparison.say(rows())
    for name, width, ms, decodes in family_costs():
        print(f"{name:16s} {width:4d} numbers  {ms:6.2f} ms  {decodes:5.2f} decodes")
