"""SRM-30, one dense correlation per kernel and one full 5×5 matrix of pairs."""

import numpy as np
from scipy.signal import correlate2d

from .luma import luma

EDGE3 = [[-1, 2, -1], [2, -4, 2], [0, 0, 0]]
EDGE5 = [[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [0] * 5, [0] * 5]
CLASSES = [  # kernel, divisor, number of distinct quarter turns
    ([[0, -1, 1]], 1, 2),
    ([[0, 0, 1], [0, -1, 0], [0, 0, 0]], 1, 2),
    ([[1, -2, 1]], 2, 2),
    ([[0, 0, 1], [0, -2, 0], [1, 0, 0]], 2, 2),
    ([[0, -1, 3, -3, 1]], 3, 2),
    (np.fliplr(np.diag([1, -3, 3, -1, 0])), 3, 2),
    (EDGE3, 4, 4),
    ([[-1, 2, -1], [2, -4, 2], [-1, 2, -1]], 4, 1),
    (EDGE5, 12, 4),
    ([*EDGE5[:3], EDGE5[1], EDGE5[0]], 12, 1),
]
PAIRS = [(0, 0), (0, 1), (0, 2), (1, 1), (1, -1), (1, 2), (1, -2), (2, 2), (2, -2)]


def in_five(kernel: object) -> np.ndarray:
    kernel = np.asarray(kernel)
    down, right = (5 - kernel.shape[0]) // 2, (5 - kernel.shape[1]) // 2
    return np.pad(kernel, ((down, down), (right, right)))


def values(image: np.ndarray) -> np.ndarray:
    y = luma(image)
    out: list[float] = []
    for kernel, divisor, turns in CLASSES:
        residuals = [correlate2d(y, np.rot90(in_five(kernel), turn), "valid") for turn in range(turns)]
        r = np.array(residuals) / divisor
        power = np.mean(r**2) + 0.01
        out += [np.abs(r).mean(), np.log(power), np.mean(r**4) / power**2]
        q = np.clip(np.sign(r) * np.floor(np.abs(r) + 0.5), -2, 2).astype(int)
        joint = np.zeros((5, 5))
        counted = np.arange(q.shape[1]) % 8 < 4
        lower = counted[:-1] & counted[1:]
        for a, b in [(q[:, counted, :-1], q[:, counted, 1:]), (q[:, :-1][:, lower], q[:, 1:][:, lower])]:
            np.add.at(joint, (a + 2, b + 2), 1)
        joint /= joint.sum()
        for a, b in PAIRS:
            alike = {(a, b), (b, a), (-a, -b), (-b, -a)}
            out.append(sum(joint[i + 2, j + 2] for i, j in alike))
    return np.array(out)
