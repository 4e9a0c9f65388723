"""Work that is hidden behind other work: items made ahead of their use, results put away behind their making.

The model always runs in the caller's thread: CUDA graphs belong to the thread that captured them, and an interrupt
reaches the main thread alone. What surrounds it (reading, decoding, encoding, storing) goes to one thread beside it,
and gains where it leaves the interpreter's lock, as the Rust core, hashing and files do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, TypeVar

from mllmrisk import trace

T = TypeVar("T")

_END: Final[Any] = object()


def ahead(items: Iterable[T], depth: int = 1) -> Generator[T, None, None]:
    """The items in their order, the next `depth` of them made by a thread while the caller is busy with one.

    An error comes where its item would have come. Whoever stops early waits for the item under way and for no other;
    `items`, where it is a generator, is closed then. Time in which nothing is ready is a span `wait` of the trace.

    Args:
        items: iterated in the thread.
        depth: items that may lie ready: what they hold is in memory.

    Raises:
        ValueError: `depth` is below 1.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, not {depth}")
    return _ahead(iter(items), depth)


def _ahead(source: Iterator[T], depth: int) -> Generator[T, None, None]:
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        ready = deque(pool.submit(next, source, _END) for _ in range(depth))
        try:
            while True:
                with trace.span("wait"):
                    item = ready.popleft().result()
                if item is _END:
                    return
                ready.append(pool.submit(next, source, _END))
                yield item
        finally:
            for future in ready:
                future.cancel()
            pool.shutdown()
            if close := getattr(source, "close", None):
                close()


class Behind:
    """Runs calls one after the other in a thread beside the caller's, who is at most one call further.

    A context manager: its end waits for the last call. What a call raises comes out of the next :meth:`do`, or of the
    end; no call after a failed one is run.
    """

    def __init__(self) -> None:
        """Starts no thread yet."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="behind")
        self._under_way: Future[None] | None = None

    def do(self, call: Callable[[], None]) -> None:
        """Hands a call over; waits for the one before it, as a span `wait` of the trace."""
        self.wait()
        self._under_way = self._pool.submit(call)

    def wait(self) -> None:
        """Until nothing is under way.

        Raises:
            Exception: whatever the last call raised.
        """
        if self._under_way is not None:
            last, self._under_way = self._under_way, None
            with trace.span("wait"):
                last.result()

    def __enter__(self) -> Behind:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.wait()
        finally:
            self._pool.shutdown()
