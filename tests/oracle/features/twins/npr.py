"""Neighbouring-pixel relationships: the image minus its nearest-neighbour reduction by two, enlarged again."""

import numpy as np

from .planes import luma, moments


def twin(image: np.ndarray) -> np.ndarray:
    y = luma(image)
    y = y[: y.shape[0] // 2 * 2, : y.shape[1] // 2 * 2]
    v = y - np.kron(y[::2, ::2], np.ones((2, 2)))
    return np.concatenate([moments(v[a::2, b::2]) for a, b in ((0, 1), (1, 0), (1, 1))])
