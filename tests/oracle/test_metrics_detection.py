"""Detection metrics against scikit-learn and hand-written twins."""

from __future__ import annotations

import numpy as np
import pytest
from metrics_twin import indices, percentile
from scipy.optimize import brentq
from sklearn import metrics as theirs

from mllmrisk import metrics


def sample(rng, n, *, ties=False, dtype=float):
    labels = rng.random(n) < 0.4
    scores = rng.normal(labels * 0.7).astype(dtype)
    return (np.round(scores, 1) if ties else scores), labels


SAMPLES = [(60, False, float), (61, True, float), (5000, False, float), (5000, True, float), (5000, False, np.float32)]


@pytest.fixture(params=SAMPLES, ids=str)
def scored(request):
    n, ties, dtype = request.param
    return sample(np.random.default_rng(n), n, ties=ties, dtype=dtype)


def test_auc_is_scikit_learns(scored):
    scores, labels = scored
    assert metrics.auc(scores, labels) == pytest.approx(theirs.roc_auc_score(labels, scores), abs=1e-12)


def test_average_precision_is_scikit_learns(scored):
    scores, labels = scored
    assert metrics.average_precision(scores, labels) == pytest.approx(
        theirs.average_precision_score(labels, scores), abs=1e-12
    )


def test_eer_is_the_crossing_of_scikit_learns_curve(scored):
    scores, labels = scored
    alarms, hits, _ = theirs.roc_curve(labels, scores, drop_intermediate=False)

    # The curve may rise straight up: parametrised by arc, it is a function.
    def gap(t):
        return np.interp(t, np.arange(alarms.size), alarms) - (1 - np.interp(t, np.arange(alarms.size), hits))

    crossing = brentq(gap, 0, alarms.size - 1, xtol=1e-14)
    expected = np.interp(crossing, np.arange(alarms.size), alarms)
    assert metrics.eer(scores, labels) == pytest.approx(expected, abs=1e-9)


def test_rates_at_a_threshold(scored):
    scores, labels = scored
    called = scores > 0.3
    assert metrics.accuracy(scores, labels, 0.3) == pytest.approx(theirs.accuracy_score(labels, called))
    assert metrics.detection_rate(scores, labels, 0.3) == pytest.approx(theirs.recall_score(labels, called))
    assert metrics.false_alarm_rate(scores, labels, 0.3) == pytest.approx(called[~labels].mean())
    assert metrics.detection_rate(scores, labels, scores - 1) == 1.0


def test_tie_share_counts_pairs():
    scores, labels = sample(np.random.default_rng(1), 300, ties=True)
    assert metrics.tie_share(scores, labels) == pytest.approx((scores[labels][:, None] == scores[~labels]).mean())


STATISTICS = {"auc": theirs.roc_auc_score, "ap": theirs.average_precision_score}


@pytest.mark.parametrize("metric", STATISTICS)
@pytest.mark.parametrize("mixed", [False, True])
def test_intervals_equal_the_twin_on_the_same_draws(metric, mixed):
    rng = np.random.default_rng(2)
    scores, labels = sample(rng, 180, ties=True)
    clusters = rng.integers(0, 25, 180) if mixed else rng.integers(0, 25, 180) * 2 + labels
    drawn_by_pool = []
    pools = [np.unique(clusters)] if mixed else [np.unique(clusters[~labels]), np.unique(clusters[labels])]
    for lane, pool in enumerate(pools):
        drawn_by_pool.append(pool[indices(4, 300, lane, pool.size)])
    drawn = np.concatenate(drawn_by_pool, axis=1)
    weights = (drawn[:, :, None] == clusters).sum(axis=1)
    statistic = STATISTICS[metric]
    replicates = [statistic(labels, scores, sample_weight=weight) for weight in weights]
    found = metrics.detection(metric, scores, labels, clusters, resamples=300, seed=4)
    expected = [statistic(labels, scores), *percentile(replicates, min(pool.size for pool in pools))]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_auc_difference_equals_the_twin():
    rng = np.random.default_rng(5)
    scores, labels = sample(rng, 240)
    groups = rng.integers(0, 2, 240)
    kind = np.where(labels, 1 + groups, 0)
    clusters = rng.integers(0, 20, 240) * 3 + kind
    weights = np.zeros((200, 240), dtype=int)
    for lane in range(3):
        pool = np.unique(clusters[kind == lane])
        weights += (pool[indices(6, 200, lane, pool.size)][:, :, None] == clusters).sum(axis=1)

    def auc_of(group, weight):
        kept = ~labels | (groups == group)
        return theirs.roc_auc_score(labels[kept], scores[kept], sample_weight=weight[kept])

    replicates = [auc_of(1, weight) - auc_of(0, weight) for weight in weights]
    found = metrics.detection_difference("auc", scores, labels, groups, clusters, resamples=200, seed=6)
    smallest = min(np.unique(clusters[kind == lane]).size for lane in range(3))
    ones = np.ones(240)
    expected = [auc_of(1, ones) - auc_of(0, ones), *percentile(replicates, smallest)]
    np.testing.assert_allclose(found[:3], expected, atol=1e-12)


def test_detection_rate_difference_pairs_shared_prompts():
    rng = np.random.default_rng(13)
    prompts = np.tile(np.arange(60), 2)
    groups = np.repeat([1, 0], 60)
    difficulty = rng.normal(size=60)
    scores = difficulty[prompts] + 0.3 * groups + rng.normal(0, 0.1, 120)
    labels = np.ones(120, dtype=bool)
    joint = metrics.detection_difference("detection_rate", scores, labels, groups, prompts, threshold=0.0)
    apart = metrics.detection_difference("detection_rate", scores, labels, groups, np.arange(120), threshold=0.0)
    assert joint.value == pytest.approx((scores[:60] > 0).mean() - (scores[60:] > 0).mean())
    assert joint.value == pytest.approx(apart.value)
    assert joint.high - joint.low < 0.8 * (apart.high - apart.low)


def test_strata_weigh_by_their_pairs():
    rng = np.random.default_rng(14)
    scores, labels = sample(rng, 400)
    strata = rng.integers(0, 4, 400)
    parts = [(strata == s) for s in range(4)]
    pairs = [labels[part].sum() * (~labels[part]).sum() for part in parts]
    for ours, statistic in ((metrics.auc, theirs.roc_auc_score), (metrics.average_precision, STATISTICS["ap"])):
        expected = np.average([statistic(labels[part], scores[part]) for part in parts], weights=pairs)
        assert ours(scores + 100 * strata, labels, strata=strata) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("fpr", [0.01, 0.05, 0.1, 0.29])
def test_threshold_is_the_smallest_that_keeps_the_rate(fpr):
    scores = np.random.default_rng(15).normal(size=500)
    found = metrics.threshold_at_fpr(scores, fpr)
    rates = np.array([(scores > t).mean() for t in np.sort(scores)])
    assert found.value == np.sort(scores)[rates <= fpr + 1e-12][0]
    assert found.false_alarm_rate == (scores > found.value).mean()
    assert metrics.threshold_at_fpr(scores[:5], 0.1) == (None, None, "too_few_reals")
    assert metrics.threshold_at_fpr(np.ones(500), fpr) == (None, None, "ties")


def test_calibration_error_is_the_definition():
    rng = np.random.default_rng(16)
    probabilities = rng.random(700)
    labels = rng.random(700) < probabilities**2
    for equal_mass in (False, True):
        if equal_mass:
            bins = np.argsort(np.argsort(probabilities)) * 15 // 700
        else:
            bins = np.minimum((probabilities * 15).astype(int), 14)
        expected = sum(
            (bins == b).mean() * abs(probabilities[bins == b].mean() - labels[bins == b].mean())
            for b in np.unique(bins)
        )
        found = metrics.calibration_error(probabilities, labels, np.arange(700), equal_mass=equal_mass, resamples=200)
        assert found.value == pytest.approx(expected, abs=1e-12)
