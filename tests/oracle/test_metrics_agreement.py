"""Agreement coefficients against scikit-learn and hand-written twins."""

from __future__ import annotations

import numpy as np
import pytest
from metrics_twin import indices, percentile
from sklearn.metrics import cohen_kappa_score

from mllmrisk import metrics


def raters(rng, items, count, categories=4, noise=0.3):
    truth = rng.integers(0, categories, items)
    other = rng.integers(0, categories, (count, items))
    return np.where(rng.random((count, items)) < noise, other, truth)


def alpha_by_coincidences(ratings, categories):
    coincidences = np.zeros((categories, categories))
    for unit in ratings.T:
        unit = unit[unit >= 0]
        for i, c in enumerate(unit):
            for j, k in enumerate(unit):
                if i != j:
                    coincidences[c, k] += 1 / (unit.size - 1)
    n = coincidences.sum()
    marginals = coincidences.sum(axis=1)
    observed = n - np.trace(coincidences)
    return 1 - (n - 1) * observed / (n**2 - (marginals**2).sum())


def fleiss_by_definition(counts):
    items, n = counts.shape[0], counts[0].sum()
    observed = ((counts**2).sum(axis=1) - n).sum() / (items * n * (n - 1))
    chance = ((counts.sum(axis=0) / (items * n)) ** 2).sum()
    return (observed - chance) / (1 - chance)


def test_cohen_kappa_is_scikit_learns_and_so_are_its_resamples():
    first, second = raters(np.random.default_rng(1), 300, 2)
    found = metrics.cohen_kappa(first, second, resamples=300, seed=8)
    replicates = [cohen_kappa_score(first[drawn], second[drawn]) for drawn in indices(8, 300, 0, 300)]
    np.testing.assert_allclose(found, [cohen_kappa_score(first, second), *percentile(replicates, 300)], atol=1e-12)


def test_fleiss_kappa_is_the_definition():
    ratings = raters(np.random.default_rng(2), 120, 5)
    counts = (ratings[:, :, None] == np.arange(4)).sum(axis=0)
    found = metrics.fleiss_kappa(counts, resamples=300, seed=8)
    replicates = [fleiss_by_definition(counts[drawn]) for drawn in indices(8, 300, 0, 120)]
    np.testing.assert_allclose(found, [fleiss_by_definition(counts), *percentile(replicates, 120)], atol=1e-12)


def test_krippendorff_alpha_is_the_coincidence_matrix():
    rng = np.random.default_rng(3)
    ratings = raters(rng, 150, 4)
    ratings[rng.random(ratings.shape) < 0.3] = -1
    kept = ratings[:, (ratings >= 0).sum(axis=0) >= 2]
    found = metrics.krippendorff_alpha(ratings, resamples=200, seed=8)
    replicates = [alpha_by_coincidences(kept[:, drawn], 4) for drawn in indices(8, 200, 0, kept.shape[1])]
    expected = [alpha_by_coincidences(ratings, 4), *percentile(replicates, kept.shape[1])]
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_clusters_of_items_widen_the_interval():
    first, second = raters(np.random.default_rng(4), 60, 2)
    first, second = np.tile(first, 5), np.tile(second, 5)
    by_item = metrics.cohen_kappa(first, second)
    by_cluster = metrics.cohen_kappa(first, second, clusters=np.tile(np.arange(60), 5))
    assert by_item.value == pytest.approx(by_cluster.value)
    assert by_cluster.high - by_cluster.low > 1.8 * (by_item.high - by_item.low)


def test_one_category_is_undefined():
    with pytest.raises(ValueError, match="single category"):
        metrics.cohen_kappa([1, 1, 1], [1, 1, 1])
