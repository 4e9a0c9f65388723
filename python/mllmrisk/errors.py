"""What can go wrong, as exceptions: one tree, each with the sentence that a person should read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class MllmriskError(Exception):
    """Any error of this package that a caller can act on. It crosses processes with its message and attributes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.args), self.__dict__


def _again(kind: type[MllmriskError], args: tuple[Any, ...]) -> MllmriskError:
    """An error of another process: its message is made already, so that its constructor is passed by."""
    return kind.__new__(kind, *args)


class UsageError(MllmriskError):
    """The call or a configuration is wrong (exit code 2)."""


class ManifestError(UsageError):
    """A manifest of images cannot be used; the message says which row and why."""


class MissingExtraError(MllmriskError):
    """A part needs a package that is not installed; the message holds the line that installs it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional package: pip install 'mllmrisk[{extra}]'")
        self.extra = extra


class StoreError(MllmriskError):
    """A run folder cannot be used: another RunSpec, another schema, or not a run."""


class OutOfMemoryError(MllmriskError):
    """A device has no room for a batch; a smaller one may fit."""


class GeneratorError(MllmriskError):
    """A generator cannot go on at all (a worker that does not start, a key that is refused), whatever the prompt.

    Attributes:
        made: what the batch had given until then, in the order of its requests and None where nothing came; empty if
            nothing did. It is paid for: store it before stopping.
    """

    def __init__(self, message: str, made: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.made = list(made)


class ImageError(MllmriskError):
    """An input gave no image or no features.

    Attributes:
        code: the reason as one word (`empty`, `not_an_image`, `unsupported`, `truncated`, `corrupt`, `limit`,
            `too_small`, `unreadable`), as it stands in `n_unscored` and in error columns.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code
