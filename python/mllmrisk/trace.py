"""Where the time of a run went: spans of what, in which stage, on which thread.

A stage (`generate NAME`, `judge NAME`, `detect NAME`) is timed always, at about a microsecond a span: how long it
took, and how long its model was busy, from which the share of time that is not the model follows. Single spans are
kept only while :func:`recording` is on, and written as a file that Perfetto and chrome://tracing open.

There is one stage at a time in a process: threads that work for it find it here.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

#: `model`, the network's own work, and copies to and from its device; `decode`, files to its input; `store`, encoding,
#: hashing and writing of what came; `wait`, for one of these on another thread; `search`, for the batch that fits.
What = Literal["model", "decode", "store", "wait", "search"]


class Span(NamedTuple):
    """One piece of work. Start and end are nanoseconds of `time.perf_counter_ns`; thread is `threading.get_ident`."""

    stage: str
    what: str
    start: int
    end: int
    thread: int


class Stage:
    """The time of one stage: a context manager that is also its result.

    Attributes:
        name: whose time it is.
        seconds: from its begin to its end, or to now.
        model_seconds: in which the model was busy, on one thread or on several at once.
        idle_share: of `seconds`, the share in which it was not; None before the model ran at all.
    """

    def __init__(self, name: str) -> None:
        """Starts at `with`."""
        self.name = name
        self._lock = threading.Lock()
        self._start = self._end = self._busy = self._since = 0
        self._running = 0

    def __enter__(self) -> Stage:
        global _stage
        self._before, _stage = _stage, self
        self._start = time.perf_counter_ns()
        return self

    def __exit__(self, *_: object) -> None:
        global _stage
        _stage = self._before
        self._end = time.perf_counter_ns()
        if (kept := _kept) is not None:
            kept.append(Span(self.name, "stage", self._start, self._end, threading.get_ident()))

    @property
    def seconds(self) -> float:
        """See the class."""
        return ((self._end or time.perf_counter_ns()) - self._start) / 1e9

    @property
    def model_seconds(self) -> float:
        """See the class."""
        return self._busy / 1e9

    @property
    def idle_share(self) -> float | None:
        """See the class."""
        return idle_share(self.seconds, self.model_seconds)

    def _model(self, *, starts: bool, now: int) -> None:
        """Counts the time in which at least one model span is open."""
        with self._lock:
            if starts and not self._running:
                self._since = now
            self._running += 1 if starts else -1
            if not self._running:
                self._busy += now - self._since


class span:  # noqa: N801 (a context manager that reads like a keyword)
    """A piece of work of the stage that is under way; nothing where none is."""

    __slots__ = ("_stage", "_start", "_what")

    def __init__(self, what: What) -> None:
        """Starts at `with`."""
        self._what = what

    def __enter__(self) -> None:
        self._stage = _stage
        self._start = time.perf_counter_ns()
        if self._stage is not None and self._what == "model":
            self._stage._model(starts=True, now=self._start)

    def __exit__(self, *_: object) -> None:
        stage = self._stage
        if stage is None:
            return
        end = time.perf_counter_ns()
        if self._what == "model":
            stage._model(starts=False, now=end)
        if (kept := _kept) is not None:
            kept.append(Span(stage.name, self._what, self._start, end, threading.get_ident()))


_stage: Stage | None = None
_kept: list[Span] | None = None


def idle_share(seconds: float, model_seconds: float) -> float | None:
    """The share of a stage's time in which its model did not run; None where it never ran."""
    if model_seconds <= 0 or seconds <= 0:
        return None
    return max(0.0, 1 - model_seconds / seconds)


def speed(units: float, seconds: float, model_seconds: float = 0.0) -> str:
    """What a stage came to, in words: `1,184 images, 5.21 per second, 3.2% of the time not in the model`."""
    words = f"{units:,.0f} images"
    if seconds > 0:
        words += f", {units / seconds:.3g} per second"
    idle = idle_share(seconds, model_seconds)
    return words if idle is None else f"{words}, {idle:.1%} of the time not in the model"


@contextlib.contextmanager
def recording(path: Path | None) -> Iterator[list[Span]]:
    """Keeps every span of the block and writes them to `path` at its end, whatever ends it; None keeps nothing.

    Yields:
        The spans so far. About 100 bytes each; a chunk of images leaves four.
    """
    global _kept
    spans: list[Span] = []
    if path is None:
        yield spans
        return
    before, _kept = _kept, spans
    try:
        yield spans
    finally:
        _kept = before
        if spans:  # a call that had nothing to do leaves the trace of the one before it
            path.write_text(json.dumps(events(spans)), encoding="utf-8")


def events(spans: list[Span]) -> dict[str, Any]:
    """The spans in Chrome's trace-event format: complete events, microseconds from the first span's start.

    A stage is an event of its own, on the thread that called it; what it did there lies within it.
    """
    origin = min((one.start for one in spans), default=0)
    callers = [one.thread for one in spans if one.what == "stage"]
    numbers: dict[int, int] = {}
    for thread in [*callers, *(one.thread for one in spans)]:
        numbers.setdefault(thread, len(numbers) + 1)
    named: list[dict[str, Any]] = [
        {
            "name": "thread_name",
            "ph": "M",
            "pid": 1,
            "tid": number,
            "args": {"name": "caller" if thread in callers else f"beside {number}"},
        }
        for thread, number in numbers.items()
    ]
    done = [
        {
            "name": one.stage if one.what == "stage" else one.what,
            "cat": one.stage,
            "ph": "X",
            "ts": (one.start - origin) / 1e3,
            "dur": (one.end - one.start) / 1e3,
            "pid": 1,
            "tid": numbers[one.thread],
        }
        for one in sorted(spans, key=lambda one: (one.start, -one.end))
    ]
    return {"traceEvents": [*named, *done], "displayTimeUnit": "ms"}
