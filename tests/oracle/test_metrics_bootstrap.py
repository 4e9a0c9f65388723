"""Rates, contrasts and their intervals against hand-written NumPy twins and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from metrics_twin import expanded, indices, percentile
from scipy import stats

from mllmrisk import metrics


def prompts(rng, clusters, rows=10, rate=0.3):
    chances = rng.beta(2 * rate, 2 * (1 - rate), clusters)
    ids = np.repeat(np.arange(clusters), rows)
    return (rng.random(ids.size) < chances[ids]).astype(float), ids


def by_cluster(values, ids):
    return np.bincount(ids, values) / np.bincount(ids)


@pytest.mark.parametrize("clusters", [31, 200, 1184])
def test_rate_equals_the_twin_on_the_same_draws(clusters):
    values, ids = prompts(np.random.default_rng(clusters), clusters)
    means = by_cluster(values, ids)
    replicates = means[indices(5, 2000, 0, clusters)].mean(axis=1)
    found = metrics.rate(values, ids, resamples=2000, seed=5)
    np.testing.assert_allclose(found, [means.mean(), *percentile(replicates, clusters)], rtol=1e-12)


def test_share_equals_the_twin_on_the_same_draws():
    rng = np.random.default_rng(3)
    ids = rng.integers(0, 60, 900)
    values = rng.random(900) < 0.4
    _, dense = np.unique(ids, return_inverse=True)
    sums, counts = np.bincount(dense, values), np.bincount(dense)
    drawn = indices(1, 3000, 0, counts.size)
    replicates = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    found = metrics.share(values, ids, resamples=3000, seed=1)
    np.testing.assert_allclose(found, [values.mean(), *percentile(replicates, counts.size)], rtol=1e-12)


def test_mean_meets_scipy_bootstrap():
    rng = np.random.default_rng(8)
    values = rng.gamma(2.0, size=150)
    tail = expanded(150)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=40_000, confidence_level=1 - 2 * tail, method="percentile", rng=rng
    )
    found = metrics.mean(values, np.arange(150), resamples=40_000)
    # The Monte-Carlo error of a 2.5% quantile of 40,000 is about 0.013 standard errors of the mean.
    error = 0.06 * theirs.standard_error
    assert found.value == pytest.approx(values.mean(), rel=1e-12)
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=error)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=error)


def test_few_events_get_wilson_on_the_effective_size():
    ids = np.repeat(np.arange(100), 10)
    values = np.zeros(1000)
    none = metrics.rate(values, ids)
    z = stats.norm.ppf(0.975)
    assert none == pytest.approx((0.0, 0.0, z**2 / (100 + z**2)), abs=1e-9)
    values[[0, 10, 11, 20]] = 1
    means = by_cluster(values, ids)
    p, variance = means.mean(), means.var(ddof=1) / 100
    # Three clusters are off 0: three degrees of freedom.
    effective = np.clip(p * (1 - p) / variance * (z / stats.t.ppf(0.975, 3)) ** 2, 100, 1000)
    centre = (p + z**2 / (2 * effective)) / (1 + z**2 / effective)
    half = z / (1 + z**2 / effective) * np.sqrt(p * (1 - p) / effective + z**2 / (4 * effective**2))
    low, high = percentile(means[indices(0, 10_000, 0, 100)].mean(axis=1), 100)
    found = metrics.rate(values, ids)
    assert found == pytest.approx((p, min(low, centre - half), max(high, centre + half)), abs=1e-9)
    assert found.high > 1.5 * high


@pytest.mark.parametrize(("successes", "trials"), [(0, 7), (1, 10), (81, 263), (50, 50)])
def test_wilson_is_scipys(successes, trials):
    theirs = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert metrics.wilson(successes, trials) == pytest.approx((successes / trials, theirs.low, theirs.high), abs=1e-9)


def test_paired_difference_equals_the_twin():
    rng = np.random.default_rng(4)
    a, ids_a = prompts(rng, 90, rate=0.4)
    b, ids_b = prompts(rng, 80, rate=0.3)
    differences = by_cluster(a, ids_a)[:80] - by_cluster(b, ids_b)
    replicates = differences[indices(2, 4000, 0, 80)].mean(axis=1)
    found = metrics.difference(a, ids_a, b, ids_b, paired=True, resamples=4000, seed=2)
    np.testing.assert_allclose(found[:3], [differences.mean(), *percentile(replicates, 80)], rtol=1e-10)


def test_sign_flips_meet_scipy_permutations():
    rng = np.random.default_rng(6)
    for size in (9, 60):
        a, b = rng.random(size), rng.random(size) + 0.1
        theirs = stats.permutation_test(
            (a - b,), np.mean, permutation_type="samples", n_resamples=20_000, vectorized=True, rng=rng
        )
        found = metrics.difference(a, np.arange(size), b, np.arange(size), paired=True, bounded=False, resamples=20_000)
        # Exact at 2^9 patterns; else two Monte-Carlo errors of a share of 20,000 draws.
        error = 1e-12 if size == 9 else 5 * np.sqrt(2 * theirs.pvalue * (1 - theirs.pvalue) / 20_000) + 1e-4
        assert found.p_value == pytest.approx(theirs.pvalue, abs=error)


def test_unpaired_difference_equals_the_twin():
    rng = np.random.default_rng(7)
    a, ids_a = prompts(rng, 70, rate=0.5)
    b, ids_b = prompts(rng, 50, rate=0.4)
    means_a, means_b = by_cluster(a, ids_a), by_cluster(b, ids_b)
    replicates = means_a[indices(9, 3000, 0, 70)].mean(axis=1) - means_b[indices(9, 3000, 1, 50)].mean(axis=1)
    found = metrics.difference(a, ids_a, b, ids_b + 1000, paired=False, resamples=3000, seed=9)
    tail = (1 + min((replicates <= 1e-12).sum(), (replicates >= -1e-12).sum())) / 3001
    p_value = 2 * stats.t.cdf(stats.norm.ppf(tail) * np.sqrt(49 / 50), 49)
    expected = [means_a.mean() - means_b.mean(), *percentile(replicates, 50), min(p_value, 1)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_difference_of_rare_events_is_newcombes():
    ids = np.arange(80)
    a, b = (ids < 3).astype(float), np.zeros(80)
    found = metrics.difference(a, ids, b, ids + 80, paired=False)
    first = stats.binomtest(3, 80).proportion_ci(method="wilson")
    second = stats.binomtest(0, 80).proportion_ci(method="wilson")
    low = 3 / 80 - np.hypot(3 / 80 - first.low, second.high)
    high = 3 / 80 + np.hypot(first.high - 3 / 80, 0)
    assert found.low <= low + 1e-9
    assert found.high >= high - 1e-3


def test_slope_equals_the_twin():
    rng = np.random.default_rng(10)
    ids, levels = np.repeat(np.arange(40), 3), np.tile([0, 1, 2], 40)
    values = 0.1 * levels + rng.normal(0, 0.2, 120)
    found = metrics.slope(values, levels, ids, resamples=2000, seed=3)
    slopes = (values[2::3] - values[0::3]) / 2
    replicates = slopes[indices(3, 2000, 0, 40)].mean(axis=1)
    np.testing.assert_allclose(found[:3], [np.polyfit(levels, values, 1)[0], *percentile(replicates, 40)], rtol=1e-9)


def test_rogan_gladen_meets_the_delta_method():
    rng = np.random.default_rng(11)
    flags, ids = prompts(rng, 500, rate=0.4)
    found = metrics.rogan_gladen(flags, ids, metrics.Validation(180, 20, 190, 10), resamples=20_000)
    p, sensitivity, specificity = by_cluster(flags, ids).mean(), 0.9, 0.95
    gain = sensitivity + specificity - 1
    value = (p + specificity - 1) / gain
    variance_p = by_cluster(flags, ids).var(ddof=1) / 500
    variance = (
        variance_p + value**2 * sensitivity * (1 - sensitivity) / 200 + (1 - value) ** 2 * 0.95 * 0.05 / 200
    ) / gain**2
    assert found.value == pytest.approx(value, rel=1e-12)
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.06)


def test_holm_is_the_definition():
    p_values = np.random.default_rng(12).random(30) ** 3
    order = np.argsort(p_values)
    expected = np.empty(30)
    expected[order] = np.minimum(1, np.maximum.accumulate(p_values[order] * np.arange(30, 0, -1)))
    np.testing.assert_allclose(metrics.holm(p_values), expected, rtol=1e-14)
