"""Names to classes, lazily: a table in the package, and entry points of outside packages."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from mllmrisk.errors import MissingExtraError, UsageError

T = TypeVar("T")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean X?` for the nearest known name, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


class Registry(Generic[T]):
    """The kinds of one thing (detectors, judges, ...), by name.

    Nothing is imported until :meth:`get` asks for it, so that `mllmrisk list` costs no torch.
    """

    def __init__(
        self, word: str, group: str, table: Mapping[str, str], extras: Mapping[str, str] | None = None
    ) -> None:
        """Makes a registry.

        Args:
            word: what the entries are, in messages: `detector`.
            group: entry point group that outside packages use: `mllmrisk.detectors`.
            table: built-in names, each with its `module:attribute`.
            extras: which optional dependency set a built-in name needs.
        """
        self.word = word
        self.group = group
        self._table = dict(table)
        self._extras = dict(extras or {})

    def _outside(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for point in entry_points(group=self.group):
            if point.name in self._table or point.name in found:
                raise UsageError(f"two packages register the {self.word} {point.name!r} ({point.value})")
            found[point.name] = point
        return found

    def names(self) -> list[str]:
        """Every registered name, sorted."""
        return sorted([*self._table, *self._outside()])

    def extra(self, name: str) -> str | None:
        """The optional dependency set that a built-in name needs."""
        return self._extras.get(name)

    def get(self, name: str) -> T:
        """The object behind a name.

        Raises:
            UsageError: no such name.
            MissingExtraError: its module needs a package that is not installed.
        """
        if name in self._table:
            module, _, attribute = self._table[name].partition(":")
            try:
                found: T = getattr(importlib.import_module(module), attribute)
            except ModuleNotFoundError as missing:
                extra = self._extras.get(name)
                if extra is None or (missing.name or "").startswith("mllmrisk"):
                    raise
                raise MissingExtraError(f"{self.word} {name!r}", extra) from missing
            return found
        outside = self._outside()
        if name in outside:
            loaded: T = outside[name].load()
            return loaded
        raise UsageError(
            f"no {self.word} is named {name!r}.{did_you_mean(name, self.names())} Known: {', '.join(self.names())}"
        )
