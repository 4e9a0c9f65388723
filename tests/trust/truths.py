"""The true value of every estimate of a simulated study, from the set rates alone.

Nothing here is estimated: the expectations over prompts are sums over the quantiles of the Beta distributions that the
simulation draws from.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import stats
from simulated import GENERATORS, JUDGES, Truth

from mllmrisk.records import Estimate

#: Quantiles per Beta distribution.
_GRID = 500


def true_value(row: Estimate, truth: Truth) -> float | None:
    """The value that an estimate should find; None where the simulation sets none (rows over all paradigms)."""
    if row.metric == "difference":
        return _difference(row, truth)
    if row.metric in ("kappa", "alpha"):
        return _agreement(row, truth)
    if row.paradigm is None or row.prompt_set is None:
        return None
    return _rate(row, truth, row.prompt_set, row.paradigm)


def _beta(truth: Truth, mean: float) -> np.ndarray:
    return _quantiles(truth.within, mean)


@cache
def _quantiles(within: float, mean: float) -> np.ndarray:
    total = 1 / within - 1
    return stats.beta.ppf((np.arange(_GRID) + 0.5) / _GRID, mean * total, (1 - mean) * total)


def _flag(truth: Truth, judge: str, mean: float | np.ndarray) -> float | np.ndarray:
    """Share of pictures that a judge flags."""
    return mean * truth.sensitivity[judge] + (1 - mean) * (1 - truth.specificity[judge])


def _rate(row: Estimate, truth: Truth, name: str, paradigm: str) -> float | None:
    mean, broken = truth.unsafe[name, paradigm], truth.corrupted[name, paradigm]
    lost, unscored = truth.lost[paradigm], truth.unscored
    kept = _beta(truth, broken)
    flag = float(_flag(truth, "first", mean))
    scored = (1 - kept) * (1 - unscored)
    if row.experiment == "filter":
        return _filtered(row, truth, mean, broken, lost)
    if row.experiment == "agreement":
        return _consensus(truth, mean, broken)
    if row.metric == "unsafe_score":
        return flag
    if row.metric == "unsafe_corrected":
        return mean
    if row.metric == "corrupted_rate":
        return broken
    if row.metric == "corrupted_called_safe":
        return 1 - truth.called_unsafe
    if row.metric == "unsafe_as_published":
        return broken * truth.called_unsafe + (1 - broken) * flag
    if row.metric == "unsafe_bound":
        return float(np.mean((kept + scored * flag) / (kept + scored)))
    if row.metric == "unsafe_of_requested":
        return float(np.mean((1 - lost) * scored * flag / (1 - (1 - lost) * (1 - kept) * unscored)))
    raise KeyError(row.metric)


def _filtered(row: Estimate, truth: Truth, mean: float, broken: float, lost: float) -> float | None:
    """Behind a filter: prompts whose images are all removed have no score, and the likelier the riskier they are."""
    if row.metric == "removed_rate":
        return float(_flag(truth, "filter", mean))
    if row.generator is None:
        return None
    unsafe, kept = _beta(truth, mean)[:, None], _beta(truth, broken)[None, :]
    passes = unsafe * (1 - truth.sensitivity["filter"]) + (1 - unsafe) * truth.specificity["filter"]
    flagged = unsafe * (1 - truth.sensitivity["filter"]) * truth.sensitivity["first"] + (
        1 - unsafe
    ) * truth.specificity["filter"] * (1 - truth.specificity["first"])
    if row.metric == "unsafe_score":
        reached = (1 - lost) * (1 - kept) * (1 - truth.unscored) * passes
        weight = 1 - (1 - reached) ** truth.samples
        return float(np.sum(weight * flagged / passes) / np.sum(weight))
    there = (1 - lost) * (1 - kept)
    share = there * (1 - truth.unscored) * flagged / (1 - there * truth.unscored * passes)
    return float(np.mean(share))


def _consensus(truth: Truth, mean: float, broken: float) -> float:
    """Flags of any judge that scored, over all images: nobody looked for corruption there."""
    u = truth.unscored

    def anyone(first: float, second: float) -> float:
        both = (1 - u) ** 2 * (1 - (1 - first) * (1 - second))
        return (both + u * (1 - u) * (first + second)) / (1 - u**2)

    unsafe = anyone(*(truth.sensitivity[name] for name in JUDGES))
    safe = anyone(*(1 - truth.specificity[name] for name in JUDGES))
    noise = anyone(truth.called_unsafe, truth.called_unsafe)
    return broken * noise + (1 - broken) * (mean * unsafe + (1 - mean) * safe)


def _agreement(row: Estimate, truth: Truth) -> float:
    """Kappa of the two judges over the set `plain`: Cohen's from their own marginals, a panel's from the common one."""
    table = np.zeros((2, 2))
    for paradigm in GENERATORS.values():
        mean, broken = truth.unsafe["plain", paradigm], truth.corrupted["plain", paradigm]
        for weight, chances in (
            (broken, [truth.called_unsafe] * 2),
            ((1 - broken) * mean, [truth.sensitivity[name] for name in JUDGES]),
            ((1 - broken) * (1 - mean), [1 - truth.specificity[name] for name in JUDGES]),
        ):
            a, b = chances
            table += (1 - truth.lost[paradigm]) * weight * np.outer([a, 1 - a], [b, 1 - b])
    table /= table.sum()
    first, second = table.sum(axis=1), table.sum(axis=0)
    if row.judge is None:
        first = second = (first + second) / 2
    chance = float(first @ second)
    return (float(np.trace(table)) - chance) / (1 - chance)


def _difference(row: Estimate, truth: Truth) -> float | None:
    """Differences of the set rates; in `contrast` nobody looks for corruption, so that flags are of all images."""
    design, _, sides = str(row.contrast).partition(": ")

    def flagged(name: str, paradigm: str) -> float:
        broken = truth.corrupted[name, paradigm]
        flag = float(_flag(truth, "first", truth.unsafe[name, paradigm]))
        return broken * truth.called_unsafe + (1 - broken) * flag

    sets, _, paradigms = sides.partition(", ")
    first, second = sets.split(" - ")
    if design == "gender":
        women = truth.women | {name: truth.women[paradigm] for name, paradigm in GENERATORS.items()}
        return women[str(row.paradigm)] - 0.5 if second == "half" else women[first] - women[second]
    if design == "paradigm":
        return flagged(str(row.prompt_set), first) - flagged(str(row.prompt_set), second)
    if design == "corrupted":
        return truth.corrupted[first, str(row.paradigm)] - truth.corrupted[second, str(row.paradigm)]
    if paradigms:
        one, other = paradigms.split(" - ")
        return (flagged(first, one) - flagged(second, one)) - (flagged(first, other) - flagged(second, other))
    return flagged(first, str(row.paradigm)) - flagged(second, str(row.paradigm))
