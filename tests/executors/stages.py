"""Small stages that die, refuse or are slow as a test wants, in worker processes that import this file."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from mllmrisk.errors import GeneratorError, MissingExtraError, UsageError
from mllmrisk.executors.base import Place


class Squares:
    """Squares numbers, and notes on disk which process worked on which.

    A number in `deadly` kills the process that meets it, so often as it says (-1: always). None works before there have
    been `together` processes: on a busy machine the first could have done it all before the second one is there.
    """

    def __init__(self, notes: Path, deadly: dict[int, int], together: int, place: Place) -> None:
        self.notes, self.deadly, self.together = notes, deadly, together
        self.facts = ("squares", place)
        (notes / f"built-{os.getpid()}").touch()

    def __call__(self, number: int) -> tuple[int, int]:
        deadline = time.monotonic() + 60
        while len(list(self.notes.glob("built-*"))) < self.together and time.monotonic() < deadline:
            time.sleep(0.05)
        met = len(list(self.notes.glob(f"met-{number}-*")))
        (self.notes / f"met-{number}-{time.time_ns()}").touch()
        if met < self.deadly.get(number, 0) or self.deadly.get(number) == -1:
            os.kill(os.getpid(), signal.SIGKILL)
        if number < 0:
            raise GeneratorError(f"no root of {number}", [number, None])
        time.sleep(0.02)
        return number * number, os.getpid()

    def close(self) -> None:
        (self.notes / f"closed-{os.getpid()}").touch()


def refused(place: Place) -> Squares:
    """A stage that cannot be built."""
    raise MissingExtraError("the stage", "gen")


def deadly(notes: Path, place: Place) -> Squares:
    """A stage that kills who builds it."""
    (notes / f"tried-{os.getpid()}").touch()
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


class Own(Squares):
    """A stage that is another one in each of two processes."""

    def __init__(self, notes: Path, place: Place) -> None:
        super().__init__(notes, {}, 2, place)
        self.facts = ("own", len(list(notes.glob("built-*"))))


def broken(place: Place) -> Squares:
    raise UsageError("no such file")
