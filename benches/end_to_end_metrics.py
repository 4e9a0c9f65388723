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
        found.append(Row(f"AUC of 1,000,000 {np.dtype(dtype)} scores", "scikit-learn", *times))
    return found


def auc_interval_rows() -> list[Row]:
    """Per resample, as 10,000 of scikit-learn's take a minute: 300 of each."""
    rng = np.random.default_rng(5)
    labels = np.arange(2000) < 1000
    scores, clusters = rng.normal(0.5 * labels), np.arange(2000)
    sides = labels.nonzero()[0], (~labels).nonzero()[0]

    def theirs(statistic: Callable[..., float]) -> np.ndarray:
        drawn = (np.concatenate([rng.choice(side, side.size) for side in sides]) for _ in range(300))
        return np.array([statistic(labels[rows], scores[rows]) for rows in drawn])

    found = []
    for metric, statistic in (("auc", roc_auc_score), ("ap", average_precision_score)):
        ours = metrics.detection(metric, scores, labels, clusters, threads=1)
        spread = theirs(statistic).std()
        width = (ours.high - ours.low) / 3.92
        np.testing.assert_allclose(width, spread, rtol=0.2)
        times = interleaved(
            lambda metric=metric: metrics.detection(metric, scores, labels, clusters, resamples=300, threads=1),
            lambda statistic=statistic: theirs(statistic),
        )
        work = f"{metric} and interval, 2,000 images, 300 resamples"
        found.append(Row(work, "NumPy + scikit-learn loop", *times))
    return found


def study_seconds(threads: int | None) -> float:
    """The paper's whole table: 7 generators x 6 prompt sets of 1,184 prompts x 10 samples, 10,000 resamples each."""
    rng = np.random.default_rng(6)
    prompts = np.repeat(np.arange(1184), 10)
    cells = [rng.random(prompts.size) < rng.random() for _ in range(42)]
    start = time.perf_counter()
    for cell in cells:
        metrics.rate(cell, prompts, threads=threads)
    return time.perf_counter() - start


def rows() -> list[Row]:
    """Every comparison; raises where the results are not the same."""
    return [*rate_rows(), *auc_rows(), *auc_interval_rows()]


if __name__ == "__main__":
    for row in rows():
        print(f"{row.work:66s} {row.ours_ms:9.2f} ms  {row.baseline_ms:9.2f} ms  {row.ratio:6.1f}x  {row.baseline}")
    for count in (1, None):
        print(f"42 rates with intervals, threads={count}: {min(study_seconds(count) for _ in range(3)):.2f} s")
