"""The batch that gives most images per second: doubled from 1 until memory ends or nothing more is gained.

Its images are thrown away: a run's chunks are cut by the batch that was found, which is kept with the run, so that
the same batches are made again after a stop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mllmrisk.errors import OutOfMemoryError
from mllmrisk.generators.base import Generator, Request
from mllmrisk.records import Outcome

#: A doubling must give so much more, or it is not worth its memory.
_GAIN = 1.05
#: Calls of each size; the faster one counts, since the first one may compile, tune or allocate.
_CALLS = 2
MOST = 256


class Trial(NamedTuple):
    """One size.

    Attributes:
        batch: requests in one call.
        per_second: requests that did not fail; None where the size did not fit into memory.
    """

    batch: int
    per_second: float | None


class Found(NamedTuple):
    """What came of a search.

    Attributes:
        batch: the smallest size that is within 5% of the fastest; 1 where not even that fits, which the run tells.
        trials: all sizes that were tried, in order.
    """

    batch: int
    trials: list[Trial]


def search(
    generator: Generator,
    requests: Sequence[Request],
    *,
    most: int = MOST,
    clock: Callable[[], float] = time.perf_counter,
) -> Found:
    """Measures a generator.

    Args:
        generator: loaded.
        requests: of the run, from its first on; repeated where they are fewer than a batch.
        most: the largest size that is tried.
        clock: seconds.

    Raises:
        GeneratorError: the generator cannot go on at all.
        ValueError: no requests.
    """
    if not requests:
        raise ValueError("no requests to measure with")
    trials: list[Trial] = []
    batch, best = 1, 0.0
    size = 1
    while size <= most:
        asked = [requests[i % len(requests)] for i in range(size)]
        seconds = []
        try:
            for _ in range(_CALLS):
                began = clock()
                answers = generator.generate(asked)
                seconds.append(clock() - began)
        except OutOfMemoryError:
            trials.append(Trial(size, None))
            break
        failed = sum(made.outcome is Outcome.FAILED for made in answers)  # quickly: that is no speed
        rate = (size - failed) / max(min(seconds), 1e-9)
        trials.append(Trial(size, rate))
        if not rate or rate < best * _GAIN:
            break
        batch, best, size = size, rate, size * 2
    return Found(batch, trials)
