"""Progress on stderr: one line that is redrawn where it is a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

#: Seconds between two lines where stderr is no terminal.
_PLAIN_EVERY = 15.0
_TERMINAL_EVERY = 0.1


class Progress:
    """Rate and time left of one stage."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Writes to `stream` (stderr unless given)."""
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._stage = ""
        self._began = self._shown = 0.0
        self._first = 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Notes that `done` of `total` units of a stage are finished."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._began, self._shown, self._first = stage, now, 0.0, done
        finished = done >= total
        every = _TERMINAL_EVERY if self._terminal else _PLAIN_EVERY
        if not finished and now - self._shown < every:
            return
        if not finished and not self._terminal and self._shown == 0.0 and now - self._began < every:
            return
        self._shown = now
        self._write(stage, done, total, now - self._began, finished)

    def _write(self, stage: str, done: int, total: int, seconds: float, finished: bool) -> None:
        fresh = done - self._first
        rate = fresh / seconds if seconds > 0 and fresh > 0 else 0.0
        left = f", {_clock((total - done) / rate)} left" if rate and not finished else ""
        speed = f", {rate:.1f}/s" if rate else ""
        line = f"{stage}: {done}/{total}{speed}{left}"
        if self._terminal:
            self._stream.write(f"\r\x1b[K{line}" + ("\n" if finished else ""))
        else:
            self._stream.write(line + "\n")
        self._stream.flush()


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
