"""Which features move with the level of a prompt: standardised effect sizes, paired by caption.

For a feature x, with m0 and m2 its means over captions at the first and the last level, and s0, s2 its standard
deviations there (over captions, n - 1), the effect size is

    d = (m2 - m0) / sqrt((s0² + s2²) / 2)

(Cohen's d with the pooled within-level deviation, so that features of any unit compare; the deviation of the paired
differences would make every steady feature look large). A caption counts where it has both levels, with the mean of its
images at each.

Errors come from a bootstrap over captions, in which the deviations vary along; p-values from swapping the two levels
within captions (all swaps where they are few, else seeded ones). The strongest features are chosen among all, so their
intervals are widened for the choice (false coverage rate, Benjamini and Yekutieli 2005) and their p-values adjusted
over all features (false discovery rate, Benjamini and Hochberg 1995).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mllmrisk.extras import optional
from mllmrisk.metrics import holm

Floats = NDArray[np.float64]

#: Fewer captions than this give no effect sizes.
FEWEST = 5
#: Bootstrap resamples at most: only their standard deviation is used.
_RESAMPLES = 2000
#: Resamples per matrix product: what bounds the memory, at any number of captions.
_CHUNK = 256
#: Results are rounded to this many decimals, so that no order of summation in a linear algebra library shows.
_DECIMALS = 9
_LEVEL = 0.95


class Effect(NamedTuple):
    """One figure: an effect size or a family's mean; see :func:`effects`."""

    name: str
    value: float
    low: float
    high: float
    p_value: float
    p_adjusted: float


class Effects(NamedTuple):
    """What moved between two levels.

    Attributes:
        strongest: features, the largest |d| first.
        families: mean |d| of each family's features, in the order of the feature vector.
        features: how many were looked at.
        constant: features that are the same in every image, of which nothing can be said.
    """

    strongest: list[Effect]
    families: list[Effect]
    features: int
    constant: int


def effects(
    first: NDArray[Any], second: NDArray[Any], names: Sequence[str], *, strongest: int, resamples: int, seed: int
) -> Effects:
    """Effect sizes of second minus first.

    A family's mean |d| is above 0 by chance alone, so its interval begins at 0 unless swaps exclude that.

    Args:
        first: (n, k) features of n captions at the first level.
        second: (n, k) of the same captions at the last.
        names: the k features, `family.column`.
        strongest: features that are listed.
        resamples: swaps behind p-values, and bootstrap resamples (2,000 of them at most).
        seed: of both.

    Raises:
        ValueError: fewer than `FEWEST` captions, or not the same of both levels.
    """
    if first.shape != second.shape or len(first) < FEWEST:
        raise ValueError(f"{first.shape} and {second.shape}: at least {FEWEST} captions at both levels are needed")
    pairs = _Pairs.of(first, second)
    told = [name for name, moving in zip(names, pairs.moving, strict=True) if moving]
    if not told:
        return Effects([], [], 0, len(names))
    families = list(dict.fromkeys(name.partition(".")[0] for name in told))
    member = np.array([[name.partition(".")[0] == family for family in families] for name in told], dtype=np.float64)
    member /= member.sum(axis=0)
    d = pairs.observed()
    means = np.abs(d) @ member
    error, family_error = _errors(pairs, member, min(resamples, _RESAMPLES), seed)
    p, family_p = _p_values(pairs, d, member, means, resamples, seed)

    student = optional("scipy.stats", "effect sizes", "train").t
    n, listed = len(first), min(strongest, len(told))
    wide = float(student.ppf(1 - (1 - _LEVEL) * listed / len(told) / 2, n - 1))
    plain = float(student.ppf((1 + _LEVEL) / 2, n - 1))
    adjusted = benjamini_hochberg(p)
    order = np.argsort(-np.abs(d), kind="stable")[:listed]
    rows = [
        _effect(told[i], d[i], d[i] - wide * error[i], d[i] + wide * error[i], p[i], adjusted[i])
        for i in map(int, order)
    ]
    lows = np.where(family_p < 1 - _LEVEL, np.maximum(means - plain * family_error, 0.0), 0.0)
    highs = means + plain * family_error
    of_families = [
        _effect(name, *numbers)
        for name, *numbers in zip(families, means, lows, highs, family_p, holm(family_p), strict=True)
    ]
    return Effects(rows, of_families, len(told), len(names) - len(told))


def _effect(name: str, *numbers: Any) -> Effect:
    value, low, high, p, adjusted = (round(float(x), _DECIMALS) for x in numbers)
    return Effect(name, value, low, high, p, adjusted)


class _Pairs(NamedTuple):
    """Features of n captions at two levels, those that vary, each centred.

    Attributes:
        moving: (all features,) which vary.
        first, second: (n, k).
        squares: (n, k) the sum of both squares.
    """

    moving: NDArray[np.bool_]
    first: Floats
    second: Floats
    squares: Floats

    @classmethod
    def of(cls, first: NDArray[Any], second: NDArray[Any]) -> _Pairs:
        """Centres on the mean of both levels and scales to a unit range, which changes no effect size."""
        both = np.concatenate([first, second]).astype(np.float64)
        middle = both.mean(axis=0)
        spread = np.abs(both - middle).max(axis=0)
        moving = spread > 1e-12 * np.maximum(1.0, np.abs(middle))
        a, b = ((side[:, moving] - middle[moving]) / spread[moving] for side in (first, second))
        # A feature that differs between levels and nowhere else has no deviation to compare with.
        within = np.maximum(a.std(axis=0), b.std(axis=0)) > 1e-9
        moving[moving] = within
        a, b = a[:, within], b[:, within]
        return cls(moving, a, b, a * a + b * b)

    @property
    def n(self) -> int:
        """Captions."""
        return len(self.first)

    def d(self, first: Floats, second: Floats, squares: Floats) -> Floats:
        """Effect sizes from weighted means of the columns, for any number of resamples at once."""
        variance = (squares - first * first - second * second) * (self.n / (2 * (self.n - 1)))
        floor = 1e-9 * self.squares.mean(axis=0)  # of a resample that drew one caption only
        result: Floats = (second - first) / np.sqrt(np.maximum(variance, floor))
        return result

    def observed(self) -> Floats:
        """(k,) effect sizes of the captions as they are."""
        return self.d(self.first.mean(axis=0), self.second.mean(axis=0), self.squares.mean(axis=0))


def _errors(pairs: _Pairs, member: Floats, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """Bootstrap standard errors of the effect sizes and of the families' means."""
    rng = np.random.default_rng([seed, 0x0B00])
    share = np.full(pairs.n, 1 / pairs.n)
    centre = pairs.observed()
    middle = np.abs(centre) @ member
    single, family = _Spread(len(centre)), _Spread(len(middle))
    for count in _chunks(resamples):
        weights = rng.multinomial(pairs.n, share, size=count) / pairs.n
        d = pairs.d(weights @ pairs.first, weights @ pairs.second, weights @ pairs.squares)
        single.add(d - centre)
        family.add(np.abs(d) @ member - middle)
    # A bootstrap of n captions varies as n - 1 of them would, where n do.
    factor = np.sqrt(pairs.n / (pairs.n - 1))
    return single.deviation() * factor, family.deviation() * factor


class _Spread:
    """The standard deviation of rows that come in parts."""

    def __init__(self, columns: int) -> None:
        self._rows, self._sum, self._squares = 0, np.zeros(columns), np.zeros(columns)

    def add(self, rows: Floats) -> None:
        """More rows, about centred."""
        self._rows += len(rows)
        self._sum += rows.sum(axis=0)
        self._squares += (rows * rows).sum(axis=0)

    def deviation(self) -> Floats:
        """(columns,) n - 1."""
        squares = np.maximum(self._squares - self._sum**2 / self._rows, 0.0)
        found: Floats = np.sqrt(squares / (self._rows - 1))
        return found


def _p_values(pairs: _Pairs, d: Floats, member: Floats, means: Floats, swaps: int, seed: int) -> tuple[Floats, Floats]:
    """Two-sided p of each feature and of each family's mean: the share of swaps that move as much or more."""
    reached, families, drawn = np.zeros(len(d)), np.zeros(len(means)), 0
    difference = (pairs.second - pairs.first) / pairs.n
    squares = pairs.squares.mean(axis=0)
    sums = (pairs.first + pairs.second).mean(axis=0) / 2
    exact = 2 ** min(pairs.n, 60) <= swaps
    slack = 1 - 1e-9
    for signs in _signs(pairs.n, swaps, seed, exact=exact):
        half = (signs @ difference) / 2
        swapped = np.abs(pairs.d(sums - half, sums + half, squares))
        reached += (swapped >= np.abs(d) * slack).sum(axis=0)
        families += (swapped @ member >= means * slack).sum(axis=0)
        drawn += len(signs)
    extra = 0 if exact else 1  # the captions as they are count as one swap
    return (reached + extra) / (drawn + extra), (families + extra) / (drawn + extra)


def _signs(n: int, swaps: int, seed: int, *, exact: bool) -> Iterator[Floats]:
    """(m, n) rows of -1 and 1: every one where `exact`, else drawn."""
    if exact:
        every = np.arange(2**n)
        for start in range(0, len(every), _CHUNK):
            bits = every[start : start + _CHUNK, None] >> np.arange(n) & 1
            yield np.asarray(1.0 - 2.0 * bits, dtype=np.float64)
        return
    rng = np.random.default_rng([seed, 0x51C5])
    for count in _chunks(swaps):
        yield np.asarray(1.0 - 2.0 * rng.integers(0, 2, size=(count, n)), dtype=np.float64)


def _chunks(total: int) -> Iterator[int]:
    for start in range(0, total, _CHUNK):
        yield min(_CHUNK, total - start)


def benjamini_hochberg(p_values: Floats) -> Floats:
    """(m,) p-values adjusted for the false discovery rate (Benjamini and Hochberg 1995), in their own order."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * (len(p) / np.arange(1, len(p) + 1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted
