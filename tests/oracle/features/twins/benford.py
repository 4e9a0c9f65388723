"""First digits of block-DCT coefficients."""

import numpy as np

from .block_dct import coefficients


def zigzag_rank() -> np.ndarray:
    """Rank of each (v, u) in JPEG's zigzag: by antidiagonal, directions alternating."""
    order = sorted(np.ndindex(8, 8), key=lambda k: (sum(k), k[0] if sum(k) % 2 else k[1]))
    rank = np.empty((8, 8), int)
    for i, k in enumerate(order):
        rank[k] = i
    return rank


def shares(n: np.ndarray, base: int) -> np.ndarray:
    n = n[n >= 1].astype(np.float64)
    exponent = np.floor(np.log(n) / np.log(base) + 1e-9)
    digit = np.floor(n / base**exponent + 1e-9).astype(int)
    counts = np.bincount(digit, minlength=base)[1:base] + 0.5
    return counts / counts.sum()


def twin(image: np.ndarray) -> np.ndarray:
    c, rank = np.abs(coefficients(image)), zigzag_rank()
    values: list[float] = []
    for low, high in ((1, 9), (10, 35)):
        n = np.minimum(np.floor(c[:, (rank >= low) & (rank <= high)] + 0.47), 2047)
        for base in (10, 20, 40, 60):
            p = shares(n, base)
            q = np.log1p(1 / np.arange(1, base)) / np.log(base)
            m = (p + q) / 2
            power = np.sum(p**0.3 * q**0.7)
            js = 0.5 * np.sum(p * np.log(p / m)) + 0.5 * np.sum(q * np.log(q / m))
            values += [js, np.log(power) / -0.7, (power - 1) / -0.7]
        values += [*shares(n, 10), np.mean(n == 0)]
    return np.array(values)
