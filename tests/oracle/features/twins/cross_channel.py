"""How the channels' residuals move together."""

import numpy as np

from .planes import FLOOR
from .synthbuster import cross_difference


def twin(image: np.ndarray) -> np.ndarray:
    d = [cross_difference(image[..., c]) for c in range(3)]
    power = [np.mean(x**2) + FLOOR for x in d]
    pairs = ((0, 1), (0, 2), (1, 2))
    values = [np.log(p) for p in power]
    values += [np.log(power[a] / power[b]) for a, b in pairs]
    values += [np.mean(d[a] * d[b]) / np.sqrt(power[a] * power[b]) for a, b in pairs]
    lagged = ((0, 0), (1, 1), (2, 2), (0, 1), (2, 1))
    values += [np.mean(d[a][:, :-1] * d[b][:, 1:]) / np.sqrt(power[a] * power[b]) for a, b in lagged]
    values += [np.mean(d[a][:-1] * d[b][1:]) / np.sqrt(power[a] * power[b]) for a, b in lagged]
    return np.array(values)
