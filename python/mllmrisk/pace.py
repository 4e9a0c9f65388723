"""How fast a service is asked: a pace that all threads share."""

from __future__ import annotations

import threading
import time


class StoppedError(Exception):
    """Who asks was stopped while a thread waited."""


class Pace:
    """Spaces requests evenly, and holds all of them back when the service asks for it."""

    def __init__(self, per_minute: float | None) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._next = self._held = 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def wait(self) -> None:
        """Returns when the next request may start.

        Raises:
            StoppedError: :meth:`stop` was called.
        """
        with self._lock:
            start = max(time.monotonic(), self._next)
            self._next = start + self._gap
        self.sleep(start - time.monotonic())
        while (left := self._held - time.monotonic()) > 0:
            self.sleep(left)

    def hold(self, seconds: float) -> None:
        """No request starts before so many seconds have passed: a rate limit is the account's, not one request's."""
        with self._lock:
            self._held = max(self._held, time.monotonic() + seconds)

    def sleep(self, seconds: float) -> None:
        """Sleeps, unless it is stopped.

        Raises:
            StoppedError: :meth:`stop` was called.
        """
        if self._stop.wait(max(0.0, seconds)):
            raise StoppedError

    def stop(self) -> None:
        """Wakes all who wait, for good."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """Whether it was stopped."""
        return self._stop.is_set()
