"""What every bench of ours against others is made of: a row, and calls timed in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Row(NamedTuple):
    """One comparison: medians in milliseconds."""

    work: str
    baseline: str
    ours_ms: float
    baseline_ms: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.baseline_ms / self.ours_ms


def interleaved(
    *calls: Callable[[], object], rounds: int, clock: Callable[[], float] = time.process_time
) -> list[float]:
    """Median milliseconds of each call, taken in turn; one round to warm up is thrown away.

    Args:
        calls: what is timed.
        rounds: how often.
        clock: CPU time of the process, or `time.perf_counter` where threads are part of the matter.
    """
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds + 1):
        for call, times in zip(calls, taken, strict=True):
            start = clock()
            call()
            times.append(1e3 * (clock() - start))
    return [statistics.median(times[1:]) for times in taken]
