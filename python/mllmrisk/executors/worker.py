"""What runs in a worker process of a cluster: one stage, built once, block by block."""

from __future__ import annotations

import os
import socket
from typing import Any, Generic, NamedTuple

from mllmrisk.errors import MllmriskError
from mllmrisk.executors.base import B, Build, Place, R, Work


class Said(NamedTuple):
    """What came of a call: a value, or an error of ours, which keeps its type and attributes on its way."""

    value: Any = None
    error: MllmriskError | None = None


class StageWorker(Generic[B, R]):
    """One worker. Its calls run one after the other, in the order in which they were made."""

    def __init__(self, build: Build[B, R], place: Place) -> None:
        """Takes what is to be built, and builds nothing yet: that it lives is known before a model is loaded."""
        self._build, self._place = build, place
        self._work: Work[B, R] | None = None

    def where(self) -> str:
        """Machine and process, for messages."""
        return f"{socket.gethostname()}, process {os.getpid()}"

    def start(self) -> Said:
        """Builds the stage, and gives its facts with the version of mllmrisk here."""
        from mllmrisk import __version__

        try:
            self._work = self._build(self._place)
        except MllmriskError as wrong:
            return Said(error=wrong)
        return Said((__version__, self._work.facts))

    def work(self, block: B) -> Said:
        """The result of one block."""
        assert self._work is not None
        try:
            return Said(self._work(block))
        except MllmriskError as wrong:
            return Said(error=wrong)

    def close(self) -> None:
        """Frees the stage."""
        if self._work is not None:
            self._work.close()
