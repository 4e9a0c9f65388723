"""Least significant bits and saturation."""

import numpy as np


def twin(image: np.ndarray) -> np.ndarray:
    values: list[float] = []
    for c in range(3):
        x = image[..., c].astype(int)
        odd = x % 2
        values += [odd.mean(), (x // 2 % 2).mean(), (x == 0).mean(), (x == 255).mean()]
        values += [(x[:, 1:] == x[:, :-1]).mean(), (odd[:, 1:] == odd[:, :-1]).mean(), (odd[1:] == odd[:-1]).mean()]
    return np.array(values)
