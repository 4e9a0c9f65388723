"""The executor `local`: one stage at a time, in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic

from mllmrisk.executors.base import B, Build, Place, Pool, Preparing, R, Work
from mllmrisk.overlap import ahead


class Local:
    """This process."""

    remote = False

    def __init__(self, place: Place) -> None:
        """Takes what stages may use."""
        self.place = place

    @property
    def about(self) -> dict[str, Any]:
        """Nothing beyond the machine itself."""
        return {}

    @contextlib.contextmanager
    def pool(self, build: Build[B, R], *, what: str) -> Iterator[Pool[B, R]]:
        """Builds the stage here; see :class:`~mllmrisk.executors.base.Executor`."""
        work = build(self.place)
        try:
            yield _Here(work)
        finally:
            work.close()


class _Here(Generic[B, R]):
    def __init__(self, work: Work[B, R]) -> None:
        self._work = work
        self.facts = work.facts

    def map(self, blocks: Iterable[B], lost: Callable[[B, str], R]) -> Iterator[R]:
        """Each block in its turn, in the caller's thread; the next one is taken and prepared in another meanwhile."""
        made = map(self._work.prepared, blocks) if isinstance(self._work, Preparing) else blocks
        with contextlib.closing(ahead(made)) as ready:
            for block in ready:
                yield self._work(block)
