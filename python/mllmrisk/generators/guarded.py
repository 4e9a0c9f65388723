"""Calls of a model: out of memory is an error of its own, and one prompt's failure is that prompt's outcome."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from mllmrisk.errors import GeneratorError, MllmriskError, OutOfMemoryError
from mllmrisk.generators.base import Made, Request
from mllmrisk.inference import first_line
from mllmrisk.records import Outcome

T = TypeVar("T")

#: What the CPU's allocator and CUDA's libraries say; they have no exception class of their own.
_WORDS = ("not enough memory", "allocate memory", "out of memory", "status_alloc_failed")


def guarded(call: Callable[[], T]) -> T:
    """What `call` returns.

    Raises:
        OutOfMemoryError: the device or the machine has no room; caches are freed first.
    """
    import torch

    try:
        return call()
    except torch.OutOfMemoryError as wrong:
        message = first_line(wrong)
    except MemoryError as wrong:
        message = first_line(wrong)
    except RuntimeError as wrong:
        if not any(words in str(wrong).lower() for words in _WORDS):
            raise
        message = first_line(wrong)
    # here, and not in a handler: the traceback kept every tensor of the failed call alive
    free_caches()
    raise OutOfMemoryError(message)


def free_caches() -> None:
    """Gives memory that nothing refers to back to the device."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def batch_or_singles(make: Callable[[Sequence[Request]], list[Made]], requests: Sequence[Request]) -> list[Made]:
    """Runs a batch; where it fails as a whole, each request alone, so that the others are not lost.

    Raises:
        OutOfMemoryError: see :func:`guarded`.
        GeneratorError: the device itself broke; nothing can be computed on it by this process any more.
    """
    import torch

    broken: tuple[type[BaseException], ...] = tuple(
        error for error in (getattr(torch, "AcceleratorError", None),) if isinstance(error, type)
    )
    if not requests:
        return []
    try:
        return guarded(lambda: make(requests))
    except MllmriskError:
        raise
    except broken as wrong:
        raise GeneratorError(f"the device broke: {first_line(wrong)}") from wrong
    except Exception as wrong:  # whatever a model's code raises for one text
        if len(requests) == 1:
            return [
                Made(Outcome.FAILED, reason="error", facts={"error": f"{type(wrong).__name__}: {first_line(wrong)}"})
            ]
    return [made for request in requests for made in batch_or_singles(make, [request])]


def random_streams(requests: Sequence[Request]) -> list[Any]:
    """One torch.Generator per request, on the CPU, so that the device does not change the noise."""
    import torch

    return [torch.Generator("cpu").manual_seed(request.seed) for request in requests]
