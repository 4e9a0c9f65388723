"""The 2-D real transform against MKL's (torch) and pocketfft (SciPy): one thread each, interleaved, checked equal."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import scipy.fft
import torch

from mllmrisk import transform

sys.path.insert(0, str(Path(__file__).parent))

import comparison
from comparison import Row, interleaved

SIZES = [
    (256, 256), (384, 384), (500, 500), (512, 512), (720, 720), (1000, 1000), (1024, 1024), (1080, 1920), (2048, 2048),
]  # fmt: skip

#: Of the largest value.
TOLERANCE = 1e-6


def rows() -> list[Row]:
    """There and back for every size."""
    if not torch.backends.mkl.is_available():
        raise SystemExit("torch is built without MKL here: there is nothing to compare with")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [row for height, width in SIZES for row in size_rows(height, width)]
    finally:
        torch.set_num_threads(before)


def size_rows(height: int, width: int) -> list[Row]:
    plane = np.random.default_rng(height).random((height, width), np.float32)
    spectrum = np.fft.rfft2(plane.astype(np.float64)).astype(np.complex64)
    on_torch, on_torch_spectrum = torch.from_numpy(plane), torch.from_numpy(spectrum)
    forward = (
        lambda: transform.rfft2(plane),
        lambda: torch.fft.rfft2(on_torch),
        lambda: scipy.fft.rfft2(plane, workers=1),
    )
    inverse = (
        lambda: transform.irfft2(spectrum, width),
        lambda: torch.fft.irfft2(on_torch_spectrum, s=(height, width)),
        lambda: scipy.fft.irfft2(spectrum, s=(height, width), workers=1),
    )
    found = []
    for name, calls, wanted in (("rfft2", forward, spectrum), ("irfft2", inverse, plane)):
        for call in calls:
            assert np.abs(np.asarray(call()) - wanted).max() <= TOLERANCE * np.abs(wanted).max(), (name, height, width)
        # Some tenths of a second each.
        rounds = max(11, 40_000_000 // (height * width) // 2 * 2 + 1)
        ours, mkl, pocketfft = interleaved(*calls, rounds=min(rounds, 301))
        work = f"{name} {height}x{width}"
        found += [Row(work, "MKL (torch)", ours, mkl, 1), Row(work, "SciPy", ours, pocketfft)]
    return found


if __name__ == "__main__":
    comparison.say(rows())
