"""From scores to estimates with intervals: rates, contrasts, detection, agreement, correction.

The unit of every interval is the *cluster* (a prompt, a caption, a source), given as an integer id per row. Intervals
are cluster bootstraps: percentile, expanded to Student's t with (clusters - 1) degrees of freedom, and near 0 and 1
hulled with Wilson's interval on the effective sample size, so that nothing seen is never shown as nothing possible;
`low <= value <= high` always. `docs/statistics.md` gives formulas and sources.

Common keywords of all that resample (`Resampling`): `resamples` (10,000; at least 100), `seed` (0), `threads` (all;
the result does not depend on it), `level` (0.95).

Errors, everywhere: `ValueError` where there is no row (or no row of a class), where a value is NaN (unscored rows
belong elsewhere), where arrays differ in length, or where the statistic is undefined. Nothing is ever NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypedDict, TypeVar

import numpy as np

from mllmrisk import _core

if TYPE_CHECKING:
    from typing import Unpack

    from numpy.typing import ArrayLike, NDArray

Scalar = TypeVar("Scalar", bound=np.generic)
Metric = Literal["auc", "ap", "eer", "accuracy", "detection_rate", "false_alarm_rate"]
Reason = Literal["too_few_reals", "ties"]

INTERVAL_METHOD: Final = "cluster bootstrap, percentile expanded to t; near 0 and 1 hulled with Wilson (effective n)"
"""How every interval of this module is made, as it stands in the `method` of an estimate."""
PAIRED_P_METHOD: Final = "two-sided sign-flip permutation test over shared clusters"
UNPAIRED_P_METHOD: Final = "two-sided cluster bootstrap p, expanded to t"


class Interval(NamedTuple):
    """A value and its interval; no ends where a single cluster cannot bound the value."""

    value: float
    low: float | None
    high: float | None


class Contrast(NamedTuple):
    """A difference (or slope), its interval, and the two-sided p-value of "it is 0"."""

    value: float
    low: float | None
    high: float | None
    p_value: float


class Threshold(NamedTuple):
    """A threshold and its false-alarm rate on the calibration reals, or the reason why there is none."""

    value: float | None
    false_alarm_rate: float | None
    reason: Reason | None


class Within(NamedTuple):
    """A value that is off by at most `error`."""

    value: float
    error: float


class Validation(NamedTuple):
    """What a judge did on images whose label is known; positive is unsafe."""

    true_positives: int
    false_negatives: int
    true_negatives: int
    false_positives: int


class Resampling(TypedDict, total=False):
    """Keywords of everything that resamples."""

    resamples: int
    seed: int
    threads: int | None
    level: float


def rate(values: ArrayLike, clusters: ArrayLike, **resampling: Unpack[Resampling]) -> Interval:
    """Mean over clusters of the clusters' means: the unsafe score of a prompt set.

    Args:
        values: (n,) in [0, 1], a flag or share per sample.
        clusters: (n,) integer ids.
        **resampling: see `Resampling`.
    """
    return _interval(_core.metrics_rate(_floats(values), _ids(clusters), _plan(**resampling)))


def mean(values: ArrayLike, clusters: ArrayLike, **resampling: Unpack[Resampling]) -> Interval:
    """As `rate`, for any finite values; without variation between clusters the interval is the value itself."""
    return _interval(_core.metrics_mean(_floats(values), _ids(clusters), _plan(**resampling)))


def share(values: ArrayLike, clusters: ArrayLike, **resampling: Unpack[Resampling]) -> Interval:
    """Share over all rows, for (n,) values in [0, 1]: each row weighs the same, where `rate` weighs clusters."""
    return _interval(_core.metrics_share(_floats(values), _ids(clusters), _plan(**resampling)))


def wilson(successes: int, trials: int, *, level: float = 0.95) -> Interval:
    """Share of independent trials with Wilson's score interval (Wilson 1927)."""
    if min(successes, trials) < 0:
        raise ValueError(f"successes: {successes} of {trials} trials")
    return _interval(_core.metrics_wilson(successes, trials, level))


def difference(
    values_a: ArrayLike,
    clusters_a: ArrayLike,
    values_b: ArrayLike,
    clusters_b: ArrayLike,
    *,
    paired: bool,
    bounded: bool = True,
    **resampling: Unpack[Resampling],
) -> Contrast:
    """Mean of cluster means of `a` minus that of `b`.

    Args:
        values_a: (n,) values of the first side; `values_b` (m,) of the second.
        clusters_a: (n,) integer ids; `clusters_b` (m,).
        values_b: see `values_a`.
        clusters_b: see `clusters_a`.
        paired: compare within the clusters that both sides have, p by sign-flip test; else resample each side by
            itself, p by bootstrap.
        bounded: values are shares in [0, 1] (checked), and few events widen the interval.
        **resampling: see `Resampling`.
    """
    sides = (_floats(values_a, "values_a"), _ids(clusters_a), _floats(values_b, "values_b"), _ids(clusters_b))
    return _contrast(_core.metrics_difference(*sides, paired, bounded, _plan(**resampling)))


def slope(values: ArrayLike, levels: ArrayLike, clusters: ArrayLike, **resampling: Unpack[Resampling]) -> Contrast:
    """Least-squares slope of (n,) values on (n,) integer levels, one point per cluster and level.

    Where every cluster has every level it is the mean of the clusters' slopes.
    """
    plan = _plan(**resampling)
    return _contrast(_core.metrics_slope(_floats(values), _ids(levels, "levels"), _ids(clusters), plan))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """(n,) p-values adjusted for their number by Holm's step-down method (Holm 1979), in their own order."""
    return np.array(_core.metrics_holm(_floats(p_values, "p_values").tolist()))


def auc(scores: ArrayLike, labels: ArrayLike, *, strata: ArrayLike | None = None) -> float:
    """Area under the ROC curve: the share of (real, fake) pairs where the fake scores higher, ties at half.

    Args:
        scores: (n,) floats, higher is more likely fake.
        labels: (n,) booleans or 0 and 1; true is fake.
        strata: (n,) integers: compare only rows of one stratum (scores of one model); each stratum weighs as many as
            it has pairs.
    """
    return _core.metrics_detection_value("auc", _floats(scores, "scores"), _flags(labels), _optional_ids(strata), None)


def average_precision(scores: ArrayLike, labels: ArrayLike, *, strata: ArrayLike | None = None) -> float:
    """Σ (gain in recall) × precision over thresholds, as scikit-learn defines it; arguments as in `auc`."""
    return _core.metrics_detection_value("ap", _floats(scores, "scores"), _flags(labels), _optional_ids(strata), None)


def eer(scores: ArrayLike, labels: ArrayLike, *, strata: ArrayLike | None = None) -> float:
    """Rate where misses equal false alarms on the linearly interpolated ROC curve; arguments as in `auc`."""
    return _core.metrics_detection_value("eer", _floats(scores, "scores"), _flags(labels), _optional_ids(strata), None)


def accuracy(scores: ArrayLike, labels: ArrayLike, threshold: ArrayLike) -> float:
    """Share of rows on their side of the threshold (one, or one per row); a fake's side is above it."""
    return _at_threshold("accuracy", scores, labels, threshold)


def detection_rate(scores: ArrayLike, labels: ArrayLike, threshold: ArrayLike) -> float:
    """Share of fakes above the threshold (one, or one per row)."""
    return _at_threshold("detection_rate", scores, labels, threshold)


def false_alarm_rate(scores: ArrayLike, labels: ArrayLike, threshold: ArrayLike) -> float:
    """Share of reals above the threshold (one, or one per row)."""
    return _at_threshold("false_alarm_rate", scores, labels, threshold)


def detection(
    metric: Metric,
    scores: ArrayLike,
    labels: ArrayLike,
    clusters: ArrayLike,
    *,
    strata: ArrayLike | None = None,
    threshold: ArrayLike | None = None,
    **resampling: Unpack[Resampling],
) -> Interval:
    """A detection metric with its interval.

    Clusters are resampled within label where none holds both a real and a fake, and jointly where one does.

    Args:
        metric: one of `Metric`, as named in estimates.
        scores: (n,) floats, higher is more likely fake.
        labels: (n,) booleans or 0 and 1; true is fake.
        clusters: (n,) integer ids.
        strata: (n,) integers, for `auc`, `ap` and `eer`: see `auc`.
        threshold: one, or one per row, for `accuracy`, `detection_rate` and `false_alarm_rate`.
        **resampling: see `Resampling`.
    """
    rows = _floats(scores, "scores")
    thresholds = _thresholds(threshold, rows)
    strata = _optional_ids(strata)
    plan = _plan(**resampling)
    return _interval(_core.metrics_detection(metric, rows, _flags(labels), _ids(clusters), strata, thresholds, plan))


def detection_difference(
    metric: Metric,
    scores: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    clusters: ArrayLike,
    *,
    strata: ArrayLike | None = None,
    threshold: ArrayLike | None = None,
    **resampling: Unpack[Resampling],
) -> Contrast:
    """A detection metric of the fakes of group 1 minus that of group 0, against the same reals.

    Reals and both groups are resampled by themselves where no cluster mixes them; where one does, clusters are drawn
    jointly, which pairs what shares a prompt. The p-value is two-sided, by bootstrap.

    Args:
        metric: one of `Metric` but `false_alarm_rate`.
        scores: as in `detection`, like `labels`, `clusters`, `strata` and `threshold`.
        labels: see `scores`.
        groups: (n,) 1 for the first group, 0 for the second; what it says of reals is not read.
        clusters: see `scores`.
        strata: see `scores`.
        threshold: see `scores`.
        **resampling: see `Resampling`.
    """
    rows, fakes, of_group = _floats(scores, "scores"), _flags(labels), _ids(groups, "groups")
    if of_group.shape == fakes.shape and not np.isin(of_group[fakes], (0, 1)).all():
        raise ValueError("groups: a fake row is in neither group 1 nor group 0")
    thresholds = _thresholds(threshold, rows)
    plan = _plan(**resampling)
    raw = _core.metrics_detection_difference(
        metric, rows, fakes, of_group == 1, _ids(clusters), _optional_ids(strata), thresholds, plan
    )
    return _contrast(raw)


def tie_share(scores: ArrayLike, labels: ArrayLike) -> float:
    """Share of (real, fake) pairs with the same score: how much of an AUC is counted at half."""
    return _core.metrics_tie_share(_floats(scores, "scores"), _flags(labels))


def threshold_at_fpr(real_scores: ArrayLike, fpr: float) -> Threshold:
    """Smallest threshold whose false-alarm rate (share of the (n,) calibration reals *above* it) is at most `fpr`.

    None, with a reason, where not one false alarm is allowed (`too_few_reals`), or where tied reals leave fewer than
    half of the allowed ones within reach (`ties`).
    """
    value, rate_above, reason = _core.metrics_threshold_at_fpr(_floats(real_scores, "real_scores"), fpr)
    return Threshold(value, rate_above, reason)


def calibration_error(
    probabilities: ArrayLike,
    labels: ArrayLike,
    clusters: ArrayLike,
    *,
    bins: int = 15,
    equal_mass: bool = False,
    **resampling: Unpack[Resampling],
) -> Interval:
    """Expected calibration error: Σ (share of rows in the bin) × |mean probability - share of fakes|.

    Args:
        probabilities: (n,) of being fake, in [0, 1].
        labels: (n,) booleans or 0 and 1; true is fake.
        clusters: (n,) integer ids.
        bins: number of bins.
        equal_mass: bins of equal counts (equal probabilities share a bin), else of equal width.
        **resampling: see `Resampling`.
    """
    plan = _plan(**resampling)
    raw = _core.metrics_calibration_error(
        _floats(probabilities, "probabilities"), _flags(labels), _ids(clusters), bins, equal_mass, plan
    )
    return _interval(raw)


def cohen_kappa(
    first: ArrayLike, second: ArrayLike, *, clusters: ArrayLike | None = None, **resampling: Unpack[Resampling]
) -> Interval:
    """Cohen's kappa of two raters' (n,) integer categories; each item is its own cluster where none are given."""
    codes = _ids(first, "first")
    plan = _plan(**resampling)
    return _interval(_core.metrics_cohen_kappa(codes, _ids(second, "second"), _items(clusters, len(codes)), plan))


def fleiss_kappa(counts: ArrayLike, *, clusters: ArrayLike | None = None, **resampling: Unpack[Resampling]) -> Interval:
    """Fleiss' kappa of (items, categories) counts of raters, the same number of raters for each item."""
    table = _table(counts, "counts")
    plan = _plan(**resampling)
    return _interval(_core.metrics_fleiss_kappa(table.ravel(), table.shape[1], _items(clusters, table.shape[0]), plan))


def krippendorff_alpha(
    ratings: ArrayLike, *, clusters: ArrayLike | None = None, **resampling: Unpack[Resampling]
) -> Interval:
    """Krippendorff's nominal alpha of (raters, items) integer categories; a negative one is a missing rating."""
    table = _table(ratings, "ratings")
    plan = _plan(**resampling)
    by_item = np.ascontiguousarray(table.T).ravel()
    return _interval(_core.metrics_krippendorff_alpha(by_item, table.shape[0], _items(clusters, table.shape[1]), plan))


def rogan_gladen(
    flags: ArrayLike, clusters: ArrayLike, validation: Validation, **resampling: Unpack[Resampling]
) -> Interval:
    """`rate` corrected for its judge: (p + sp - 1) / (se + sp - 1), held in [0, 1] (Rogan and Gladen 1978).

    Args:
        flags: (n,) in [0, 1].
        clusters: (n,) integer ids.
        validation: counts of the judge on labelled images; their uncertainty is in the interval.
        **resampling: see `Resampling`.
    """
    if min(validation) < 0:
        raise ValueError("validation: a count is negative")
    counts = (int(validation[0]), int(validation[1]), int(validation[2]), int(validation[3]))
    return _interval(_core.metrics_rogan_gladen(_floats(flags, "flags"), _ids(clusters), counts, _plan(**resampling)))


class RateCounter:
    """`rate` of flags that come in parts; the same result in any order of updates and merges."""

    def __init__(self) -> None:
        self._counter = _core.RateCounter()

    def update(self, flags: ArrayLike, clusters: ArrayLike) -> None:
        """Adds (n,) flags (booleans or 0 and 1) and their (n,) cluster ids."""
        self._counter.update(_flags(flags, "flags"), _ids(clusters))

    def merge(self, other: RateCounter) -> None:
        """Adds what another counter saw."""
        self._counter.merge(other._counter)

    @property
    def n_clusters(self) -> int:
        """Clusters so far."""
        return self._counter.seen()[0]

    @property
    def n_rows(self) -> int:
        """Rows so far."""
        return self._counter.seen()[1]

    def finish(self, **resampling: Unpack[Resampling]) -> Interval:
        """The rate of all rows; the counter can go on."""
        return _interval(self._counter.finish(_plan(**resampling)))


class ScoreHistogram:
    """AUC of scores that are too many to keep, and how far off it can be; the same result in any order.

    Args:
        low: lower end of the binned range; scores beyond the ends go into the outer bins.
        high: upper end.
        bins: number of bins of equal width.
    """

    def __init__(self, low: float = 0.0, high: float = 1.0, bins: int = 65_536) -> None:
        self._histogram = _core.ScoreHistogram(low, high, bins)

    def update(self, scores: ArrayLike, labels: ArrayLike) -> None:
        """Counts (n,) scores and (n,) labels (true is fake)."""
        self._histogram.update(_floats(scores, "scores"), _flags(labels))

    def merge(self, other: ScoreHistogram) -> None:
        """Adds what another histogram of the same bins counted."""
        self._histogram.merge(other._histogram)

    def finish(self) -> Within:
        """The AUC with pairs of one bin at half; `error` is half the share of such pairs, and surely holds."""
        return Within(*self._histogram.finish())


def _plan(
    resamples: int = 10_000, seed: int = 0, threads: int | None = None, level: float = 0.95
) -> tuple[int, int, float, int | None]:
    if resamples < 0:
        raise ValueError(f"resamples: {resamples} is negative")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed: {seed} is not between 0 and 2**64 - 1")
    if threads is not None and threads < 1:
        raise ValueError(f"threads: {threads} is less than 1")
    return int(resamples), int(seed), float(level), threads


def _interval(raw: tuple[float, tuple[float, float] | None]) -> Interval:
    value, bounds = raw
    low, high = bounds or (None, None)
    return Interval(value, low, high)


def _contrast(raw: tuple[float, tuple[float, float] | None, float]) -> Contrast:
    value, bounds, p_value = raw
    low, high = bounds or (None, None)
    return Contrast(value, low, high, p_value)


def _at_threshold(metric: Metric, scores: ArrayLike, labels: ArrayLike, threshold: ArrayLike) -> float:
    rows = _floats(scores, "scores")
    return _core.metrics_detection_value(metric, rows, _flags(labels), None, _thresholds(threshold, rows))


def _floats(values: ArrayLike, name: str = "values") -> NDArray[np.float64]:
    return _one_dimensional(np.ascontiguousarray(values, dtype=np.float64), name)


def _flags(labels: ArrayLike, name: str = "labels") -> NDArray[np.bool_]:
    array = np.ascontiguousarray(labels)
    if array.dtype != np.bool_:
        if not np.isin(array, (0, 1)).all():
            raise ValueError(f"{name}: neither booleans nor 0 and 1")
        array = array.astype(np.bool_)
    return _one_dimensional(array, name)


def _ids(ids: ArrayLike, name: str = "clusters") -> NDArray[np.int64]:
    array = np.ascontiguousarray(ids)
    if array.size and array.dtype.kind not in "iub":
        raise ValueError(f"{name}: {array.dtype} where integers are expected (numpy.unique gives ids for names)")
    return _one_dimensional(array.astype(np.int64, copy=False), name)


def _optional_ids(strata: ArrayLike | None) -> NDArray[np.int64] | None:
    return None if strata is None else _ids(strata, "strata")


def _items(clusters: ArrayLike | None, count: int) -> NDArray[np.int64]:
    return np.arange(count, dtype=np.int64) if clusters is None else _ids(clusters)


def _thresholds(threshold: ArrayLike | None, scores: NDArray[np.float64]) -> NDArray[np.float64] | None:
    if threshold is None:
        return None
    given = np.asarray(threshold, dtype=np.float64)
    return np.full(scores.shape, given) if given.ndim == 0 else _floats(given, "threshold")


def _table(values: ArrayLike, name: str) -> NDArray[np.int64]:
    array = np.ascontiguousarray(values)
    if array.ndim != 2:
        raise ValueError(f"{name}: {array.ndim} dimensions where a table is expected")
    return _ids(array.ravel(), name).reshape(array.shape)


def _one_dimensional(array: NDArray[Scalar], name: str) -> NDArray[Scalar]:
    if array.ndim != 1:
        raise ValueError(f"{name}: {array.ndim} dimensions where one is expected")
    return array
