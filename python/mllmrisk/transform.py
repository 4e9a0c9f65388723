"""The 2-D Fourier transform of real planes, in single precision.

Any size works; sides whose prime factors are at most 31 are fastest (2, 3, 5 and 7 above all), others take four
to five times as long (docs/design/0017). Everything runs in the core, outside the interpreter.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from mllmrisk import _core
from mllmrisk.errors import UsageError

_Scalar = TypeVar("_Scalar", bound=np.generic)


def rfft2(plane: npt.NDArray[np.float32 | np.uint8], *, threads: int = 1) -> npt.NDArray[np.complex64]:
    """The half spectrum of a real plane, or of each of many: `numpy.fft.rfft2` over the last two axes, not normalised.

    Args:
        plane: `(..., H, W)` float32 or uint8.
        threads: how many planes are worked on at once; values do not depend on it.

    Returns:
        `(..., H, W // 2 + 1)` complex64: vertical frequency v in cycles per H pixels, horizontal u in cycles per W; the
        others are the conjugates of (-v, -u). Differs from the exact transform by less than 1e-6 of its largest value.

    Raises:
        UsageError: the array has another type or fewer than two axes, a plane has no pixel, or `threads` is under 1.
    """
    if plane.dtype not in (np.float32, np.uint8):
        raise UsageError(f"a plane is float32 or uint8, not {plane.dtype}")
    stack = _stack(plane, threads)
    spectra = _core.rfft2(stack, threads)
    return spectra.reshape((*plane.shape[:-1], spectra.shape[-1]))


def irfft2(spectrum: npt.NDArray[np.complex64], width: int, *, threads: int = 1) -> npt.NDArray[np.float32]:
    """The real plane of a half spectrum, or of each of many: `numpy.fft.irfft2` over the last two axes.

    Args:
        spectrum: `(..., H, width // 2 + 1)` complex64, as `rfft2` gives it. What no real plane has is left out as NumPy
            does: the imaginary part of column 0, and of the last column of an even width, once columns are transformed.
        width: pixels of a row; the spectra of rows of 2n and of 2n + 1 pixels are equally wide.
        threads: how many planes are worked on at once; values do not depend on it.

    Returns:
        `(..., H, width)` float32, divided by H times width: `irfft2(rfft2(plane), W)` is `plane` but for rounding.

    Raises:
        UsageError: the array has another type or fewer than two axes, is not as wide as `width` asks, has no row, or
            `threads` is under 1.
    """
    if spectrum.dtype != np.complex64:
        raise UsageError(f"a spectrum is complex64, not {spectrum.dtype}")
    stack = _stack(spectrum, threads)
    if width < 1 or stack.shape[-1] != width // 2 + 1:
        raise UsageError(f"a spectrum of {stack.shape[-1]} columns is not that of rows of {width} pixels")
    planes = _core.irfft2(stack, width, threads)
    return planes.reshape((*spectrum.shape[:-1], width))


def _stack(array: npt.NDArray[_Scalar], threads: int) -> npt.NDArray[_Scalar]:
    """The array as (n, height, width), contiguous, once it is known to be fit."""
    if array.ndim < 2:
        raise UsageError(f"a plane has two axes, not the shape {array.shape}")
    height, width = array.shape[-2:]
    if not height or not width:
        raise UsageError(f"a plane without pixels has no transform: {array.shape}")
    if threads < 1:
        raise UsageError(f"threads is {threads}, less than 1")
    count = array.size // (height * width)
    return np.ascontiguousarray(array).reshape(count, height, width)
