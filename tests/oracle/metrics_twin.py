"""The draws and percentiles of mllmrisk.metrics in NumPy, written from docs/statistics.md."""

from __future__ import annotations

import numpy as np
from scipy import stats

GAMMA = np.uint64(0x9E3779B97F4A7C15)


def mix(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def words(seed, resamples, lane, count):
    """(resamples, count) words of SplitMix64, as docs/statistics.md lays them out."""
    with np.errstate(over="ignore"):
        key = mix(np.uint64(seed) + GAMMA)
        key = mix(key + np.arange(1, resamples + 1, dtype=np.uint64) * GAMMA)
        key = mix(key + np.uint64(lane + 1) * GAMMA)
        return mix(key[:, None] + np.arange(1, count + 1, dtype=np.uint64) * GAMMA)


def indices(seed, resamples, lane, n):
    """(resamples, n) indices below n: low half, then high half of each word, scaled."""
    word = words(seed, resamples, lane, (n + 1) // 2)
    halves = np.stack([word & np.uint64(0xFFFFFFFF), word >> np.uint64(32)], axis=-1).reshape(resamples, -1)[:, :n]
    return ((halves * np.uint64(n)) >> np.uint64(32)).astype(np.int64)


def expanded(clusters, level=0.95):
    return stats.norm.cdf(np.sqrt(clusters / (clusters - 1)) * stats.t.ppf((1 - level) / 2, clusters - 1))


def percentile(replicates, clusters):
    tail = expanded(clusters)
    return np.quantile(replicates, [tail, 1 - tail])
