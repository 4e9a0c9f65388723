"""What an executor is: it builds a stage where the stage shall run, and hands it blocks.

A stage is described by a picklable function that builds it (loads a generator, a judge, a detector) at a place. Blocks
and results cross processes: images in them are encoded bytes, since machines may share no disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

B = TypeVar("B")
R = TypeVar("R")
B_in = TypeVar("B_in", contravariant=True)
R_out = TypeVar("R_out", covariant=True)


class Place(NamedTuple):
    """What a stage may use where it runs.

    Attributes:
        device: `auto`, `cpu`, `cuda[:INDEX]` or `tensorrt[:INDEX]`.
        threads: CPU threads of its own.
    """

    device: str
    threads: int


class Work(Protocol[B_in, R_out]):
    """A stage that is built.

    Attributes:
        facts: what the driver has to know of it (names, versions), as picklable values; they are the same wherever the
            stage is built, or its results would depend on where a block went.
    """

    facts: Any

    def __call__(self, block: B_in, /) -> R_out:
        """Works on one block."""
        ...

    def close(self) -> None:
        """Frees models and processes."""
        ...


@runtime_checkable
class Preparing(Protocol):
    """A stage whose blocks need work before its model: `local` has it done while another block is worked on."""

    def prepared(self, block: Any, /) -> Any:
        """What a call of the stage takes in place of the block; runs in another thread."""
        ...


#: Builds a stage at a place.
Build = Callable[[Place], Work[B, R]]


class Pool(Protocol[B, R]):
    """A stage's workers.

    Attributes:
        facts: see :class:`Work`.
    """

    @property
    def facts(self) -> Any:
        """What the driver has to know of the stage."""
        ...

    def map(self, blocks: Iterable[B], lost: Callable[[B, str], R]) -> Iterator[R]:
        """Results in the order of the blocks. Blocks are taken as they are needed, few at a time.

        Args:
            blocks: what is to be done.
            lost: makes the result of a block that no worker survives, of the reason in one word.

        Raises:
            MllmriskError: what the stage raised at a block, in that block's turn, with all its attributes.
        """
        ...


class Executor(Protocol):
    """Where stages run.

    Attributes:
        remote: whether in other processes: then blocks and results are to be small, and hold no path.
        about: what it has, for the record of a run.
    """

    remote: bool

    @property
    def about(self) -> dict[str, Any]:
        """What it has, as JSON values."""
        ...

    def pool(self, build: Build[B, R], *, what: str) -> AbstractContextManager[Pool[B, R]]:
        """Builds a stage, and frees it again.

        Args:
            build: picklable where the executor is remote.
            what: whose stage it is, for messages: `judge 'opennsfw'`.

        Raises:
            MllmriskError: what `build` raised.
            UsageError: there is no room for it, or its workers differ.
        """
        ...
