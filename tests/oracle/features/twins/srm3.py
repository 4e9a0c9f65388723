"""SRM-3."""

import numpy as np
from scipy import ndimage

from .planes import FLOOR, luma, moments, neighbour_product

KERNELS = (
    np.array([[-1, 2, -1], [2, -4, 2], [-1, 2, -1]]) / 4,
    np.array([[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [2, -6, 8, -6, 2], [-1, 2, -2, 2, -1]]) / 12,
    np.array([[1, -2, 1]]) / 2,
)


def twin(image: np.ndarray) -> np.ndarray:
    y = luma(image)
    values: list[float] = []
    for kernel in KERNELS:
        v = np.clip(np.round(ndimage.correlate(y, kernel)[2:-2, 2:-2], 9), -3, 3)
        power = np.mean(v**2) + FLOOR
        values += moments(v)
        values += [neighbour_product(v, *lag) / power for lag in ((0, 1), (1, 0), (1, 1), (1, -1))]
    return np.array(values)
