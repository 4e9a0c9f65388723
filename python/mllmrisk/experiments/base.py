"""What an experiment is: a question with its samples, scorers and estimates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import msgspec

from mllmrisk.experiments.study import Study
from mllmrisk.records import Ask, Estimate


class Experiment(Protocol):
    """One question, asked of a study.

    Attributes:
        kind: its name in suites and in `estimates.json`.
        accepts: the parameters that a suite may set, with defaults.
        prompt_sets: those of its parameters that hold names of prompt sets (at any depth): a profile may put its own
            sets in their place.
        photographs: whether it compares with real images, and so is left out where there are none.
    """

    kind: str
    accepts: type[msgspec.Struct]
    prompt_sets: ClassVar[tuple[str, ...]]
    photographs: bool

    def __init__(self, parameters: Any) -> None:
        """Takes an instance of `accepts`."""
        ...

    def needs(self) -> Iterable[str]:
        """Optional dependency sets (`train`, `cpu`, ...) that it needs, so that a run fails before it starts."""
        ...

    def absent(self) -> str | None:
        """What the profile lacks for it, in words, so that it is left out and said; None where nothing is lacking."""
        ...

    def asks(self) -> Iterable[Ask]:
        """The images that it wants from generators, where a run generates."""
        ...

    def check(self, study: Study) -> None:
        """Refuses images that cannot be used, before any experiment of the run begins.

        Raises:
            UsageError: what is wrong and what to do.
        """
        ...

    def estimates(self, study: Study) -> list[Estimate]:
        """Asks the study for scores, stage by stage, and makes the estimates."""
        ...


P = TypeVar("P", bound=msgspec.Struct)


class WithParameters(Generic[P]):
    """An experiment that keeps its suite's parameters; `extras` are the dependency sets that it needs."""

    extras: ClassVar[tuple[str, ...]] = ("train", "cpu")
    prompt_sets: ClassVar[tuple[str, ...]] = ()
    photographs: bool = False

    def __init__(self, parameters: P) -> None:
        """Takes the suite's parameters."""
        self.parameters = parameters

    def needs(self) -> Iterable[str]:
        """The optional dependency sets."""
        return self.extras

    def absent(self) -> str | None:
        """Nothing is lacking."""
        return None

    def check(self, study: Study) -> None:
        """Any images will do."""

    def asks(self) -> Iterable[Ask]:
        """Nothing: it takes the images that are there."""
        return ()
