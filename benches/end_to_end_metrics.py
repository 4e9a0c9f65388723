"""Metrics against NumPy, SciPy and scikit-learn: one process, one thread each, interleaved, results checked equal."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from mllmrisk import metrics

sys.path.insert(0, str(Path(__file__).parent))

import comparison
from comparison import Row

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 7
RESAMPLES = 10_000


def interleaved(*calls: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """Median milliseconds of each call, taken in turn."""
    return comparison.interleaved(*calls, rounds=rounds, clock=time.perf_counter)


def numpy_rate(values: np.ndarray, prompts: np.ndarray, seed: int) -> np.ndarray:
    """The usual loop: one resample of prompts at a time."""
    rng = np.random.default_rng(seed)
    means = np.bincount(prompts, values) / np.bincount(prompts)
    replicates = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        replicates[i] = means[rng.integers(0, means.size, means.size)].mean()
    return np.quantile(replicates, [0.025, 0.975])


def scipy_rate(values: np.ndarray, prompts: np.ndarray, seed: int) -> np.ndarray:
    means = np.bincount(prompts, values) / np.bincount(prompts)
    found = stats.bootstrap(
        (means,), np.mean, n_resamples=RESAMPLES, method="percentile", batch=500, rng=np.random.default_rng(seed)
    )
    return np.array(found.confidence_interval)


def rate_rows() -> list[Row]:
    rng = np.random.default_rng(1)
    prompts = np.repeat(np.arange(1184), 10)
    values = (rng.random(prompts.size) < rng.beta(1, 3, 1184)[prompts]).astype(float)
    ours = metrics.rate(values, prompts, threads=1)
    # Two Monte-Carlo quantiles of 10,000 resamples each differ by 0.04 standard errors (one sigma).
    error = 5 * 0.04 * (ours.high - ours.low) / 3.92
    for theirs in (numpy_rate(values, prompts, 2), scipy_rate(values, prompts, 3)):
        np.testing.assert_allclose(ours[1:], theirs, atol=error, rtol=0)
    times = interleaved(
        lambda: metrics.rate(values, prompts, threads=1),
        lambda: numpy_rate(values, prompts, 2),
        lambda: scipy_rate(values, prompts, 3),
    )
    work = "rate and interval, 1,184 prompts x 10 samples, 10,000 resamples"
    return [Row(work, "NumPy loop", times[0], times[1]), Row(work, "scipy.stats.bootstrap", times[0], times[2])]


def auc_rows() -> list[Row]:
    rng = np.random.default_rng(4)
    labels = rng.random(1_000_000) < 0.5
    found = []
    for dtype in (np.float64, np.float32):
        scores = rng.normal(0.5 * labels).astype(dtype)
        np.testing.assert_allclose(metrics.auc(scores, labels), roc_auc_score(labels, scores), atol=1e-12, rtol=0)
        times = interleaved(
            lambda scores=scores: metrics.auc(scores, labels), lambda scores=scores: roc_auc_score(labels, scores)
        )
        found.append(Row(f"AUC of 1,000,000 {np.dtype(dtype)} scores", "scikit-learn", *times, goal=10))
    return found


def interval_rows() -> list[Row]:
    """Of two sizes; scikit-learn's loop takes over two minutes for the whole of the larger: a tenth of it is timed."""
    found = []
    for images, resamples, timed in ((2000, 300, 300), (14_000, 1000, 100)):
        for metric, statistic in (("auc", roc_auc_score), ("ap", average_precision_score)):
            if images > 2000 and metric != "auc":
                continue
            found.append(interval_row(metric, statistic, images, resamples, timed))
    return found


def interval_row(
    metric: metrics.Metric, statistic: Callable[..., float], images: int, resamples: int, timed: int
) -> Row:
    rng = np.random.default_rng(5)
    labels = np.arange(images) < images // 2
    scores, clusters = rng.normal(0.5 * labels), np.arange(images)
    sides = labels.nonzero()[0], (~labels).nonzero()[0]

    def theirs() -> np.ndarray:
        drawn = (np.concatenate([rng.choice(side, side.size) for side in sides]) for _ in range(timed))
        return np.array([statistic(labels[rows], scores[rows]) for rows in drawn])

    def ours() -> metrics.Interval:
        return metrics.detection(metric, scores, labels, clusters, resamples=resamples, threads=1)

    interval = ours()
    np.testing.assert_allclose((interval.high - interval.low) / 3.92, theirs().std(), rtol=0.25)
    mine, loop = interleaved(ours, theirs, rounds=ROUNDS if images <= 2000 else 3)
    work = f"{metric} and interval, {images:,} images, {resamples:,} resamples"
    return Row(work, "NumPy + scikit-learn loop", mine, loop * resamples / timed, goal=50)


def study_row() -> Row:
    """The paper's whole table: 7 generators x 6 prompt sets of 1,184 prompts x 10 samples, 10,000 resamples each."""
    rng = np.random.default_rng(6)
    prompts = np.repeat(np.arange(1184), 10)
    cells = [rng.random(prompts.size) < rng.random() for _ in range(42)]
    (taken,) = interleaved(lambda: [metrics.rate(cell, prompts, threads=1) for cell in cells], rounds=3)
    work = "7 generators x 6 prompt sets of 1,184 prompts x 10 samples, rates and intervals, 10,000 resamples"
    return Row(work, "one second", taken, 1000.0, goal=1)


def histogram_rows() -> list[Row]:
    """Scores that are too many to keep, counted in 65,536 bins, then merged: what a thousand million cost."""
    rng = np.random.default_rng(7)
    labels = rng.random(1_000_000) < 0.5
    scores = rng.normal(0.5 * labels)
    counted = metrics.ScoreHistogram(-8.0, 8.0, bins=65_536)
    counted.update(scores, labels)
    other = metrics.ScoreHistogram(-8.0, 8.0, bins=65_536)
    other.update(scores, labels)
    found = counted.finish()
    assert abs(found.value - metrics.auc(scores, labels)) <= found.error
    auc, update, merge = interleaved(
        lambda: metrics.auc(scores, labels),
        lambda: other.update(scores, labels),
        lambda: other.merge(counted),
        rounds=ROUNDS,
    )
    return [
        Row("1,000,000 scores into a histogram", "our exact AUC of them", update, auc),
        Row("merge of two histograms of 65,536 bins", "our exact AUC of 1,000,000 scores", merge, auc),
    ]


def rows() -> list[Row]:
    """Every comparison; raises where the results are not the same."""
    return [*rate_rows(), study_row(), *auc_rows(), *interval_rows(), *histogram_rows()]


if __name__ == "__main__":
    comparison.say(rows())
