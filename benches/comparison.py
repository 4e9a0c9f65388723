"""What every bench of ours against others is made of: a row, and calls timed in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple


class Row(NamedTuple):
    """One comparison over the same work: what ours takes, and what the other side takes.

    Attributes:
        work: what was done.
        baseline: the other side.
        ours: in `unit`.
        other: in `unit`.
        goal: how many times less ours is to take, where the project set that out.
        unit: of both.
    """

    work: str
    baseline: str
    ours: float
    other: float
    goal: float | None = None
    unit: str = "ms"

    @property
    def ratio(self) -> float:
        """How many times less ours takes."""
        return self.other / self.ours


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


def say(rows: Iterable[Row]) -> None:
    """Prints rows, one a line."""
    for row in rows:
        both = f"{row.ours:10.3f} {row.unit:3s} {row.other:10.3f} {row.unit:3s}"
        print(f"{row.work:66s} {both} {row.ratio:7.2f}x  {row.baseline}", flush=True)
