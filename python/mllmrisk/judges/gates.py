"""Is it a picture at all? A judge of corruption that needs no model: bounds on a dozen statistics of the pixels.

A gate is a list of cases, a case a list of bounds on statistics of :func:`mllmrisk.images.statistics`, all in the TOML
with their reasons. A bound is scored on a logistic scale, 0.5 at the bound itself; a case by its weakest bound, a gate
by its strongest case, `corrupted` by its strongest gate. So 0.5 means "as the TOML says", and another threshold moves
all bounds by a stated number of widths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk import config, images
from mllmrisk.judges.described import Described, digest, unscored
from mllmrisk.records import Score

CORRUPTED = "corrupted"
_COLUMN = {statistic.name: i for i, statistic in enumerate(images.STATISTICS)}

Array = NDArray[np.float64]


class Bound(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bound on one statistic.

    Attributes:
        above, below: one of them: from where on the bound is met.
        width: of the logistic scale, in the statistic's unit: how far from the bound the score is 0.73 or 0.27.
    """

    width: float
    above: float | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        """Refuses a bound with no side, or two, or without a scale."""
        if (self.above is None) == (self.below is None) or not self.width > 0:
            raise ValueError("a bound has either above or below, and a width over 0")

    def score(self, values: Array) -> Array:
        """Scores in [0, 1] of (n,) values; 0.5 at the bound."""
        beyond = values - self.above if self.above is not None else float(self.below or 0.0) - values
        return 0.5 * (1 + np.tanh(beyond / (2 * self.width)))


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way in which a gate objects: all bounds are met.

    Attributes:
        reason: why these bounds, with what was measured.
        bounds: by name of a statistic.
    """

    reason: str
    bounds: dict[str, Bound]

    def __post_init__(self) -> None:
        """Refuses a bound on something that nobody measures, and a case without bounds or reason."""
        unknown = sorted(set(self.bounds) - set(_COLUMN))
        if unknown:
            raise ValueError(f"no statistic is called {unknown[0]!r}; there are {', '.join(_COLUMN)}")
        if not self.bounds or not self.reason.strip():
            raise ValueError("a case needs bounds and a reason")

    def score(self, values: Array) -> Array:
        """Scores of (n, k) statistics: that of the weakest bound."""
        each = [bound.score(values[:, _COLUMN[name]]) for name, bound in self.bounds.items()]
        return np.asarray(np.min(each, axis=0))


class Recipe(Described, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole TOML.

    Attributes:
        threshold: of `corrupted` and of every gate.
        gates: cases by gate, in the order in which reasons are given.
    """

    kind: Literal["gates"]
    threshold: float = 0.5
    gates: dict[str, list[Case]]

    def __post_init__(self) -> None:
        """Refuses a gate without cases."""
        empty = [name for name, cases in self.gates.items() if not cases]
        if empty or not self.gates or CORRUPTED in self.gates:
            raise ValueError(f"each gate needs a case, there must be a gate, and none may be called {CORRUPTED!r}")


def made(table: dict[str, Any], folder: Path, *, device: str = "auto") -> Gates:
    """The judge of a TOML of the kind `gates`; it runs on the CPU whatever the device."""
    del folder, device
    return Gates(config.converted(table, Recipe))


class Gates:
    """Judges corruption by statistics of the pixels.

    Attributes:
        name, version, categories, attributes, threshold: see :class:`~mllmrisk.judges.base.Judge`; the attributes are
            the gates, each with a threshold of its own, and the version ends in a digest of bounds and formulas.
    """

    def __init__(self, recipe: Recipe) -> None:
        """Takes the bounds."""
        self.name = recipe.name
        self.categories = (CORRUPTED,)
        self.attributes = tuple(recipe.gates)
        self.threshold = dict.fromkeys((*self.attributes, CORRUPTED), recipe.threshold)
        self._gates: Mapping[str, list[Case]] = recipe.gates
        bounds = {name: [case.bounds for case in cases] for name, cases in recipe.gates.items()}
        self.version = f"{recipe.version}-{digest(bounds, [about.formula for about in images.STATISTICS])}"

    def score(self, images: Sequence[bytes], *, threads: int) -> list[dict[str, Score]]:
        """Scores encoded images on `threads` threads.

        Returns:
            For each `corrupted` and every gate, in [0, 1]; unscored with the
            :class:`~mllmrisk.errors.ImageError`'s code where there are no statistics (`too_small` under 64 px a side).
        """
        measured = _measured(images, threads)
        scores = self.scores(measured.values)
        columns = [(name, scores[name]) for name in (*self.categories, *self.attributes)]
        return [
            unscored((*self.categories, *self.attributes), measured.errors[i].code)
            if i in measured.errors
            else {name: Score(float(values[i])) for name, values in columns}
            for i in range(len(images))
        ]

    def scores(self, values: NDArray[np.float32]) -> dict[str, Array]:
        """Scores (n,) of `corrupted` and of every gate from (n, k) statistics; NaN in, NaN out."""
        wide = values.astype(np.float64)
        found = {name: np.max([case.score(wide) for case in cases], axis=0) for name, cases in self._gates.items()}
        return {CORRUPTED: np.max(list(found.values()), axis=0), **found}


def _measured(encoded: Sequence[bytes], threads: int) -> images.Statistics:
    return images.statistics(encoded, threads=threads)
