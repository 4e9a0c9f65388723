"""First and second differences in four directions."""

import numpy as np

from .planes import luma, moments


def twin(image: np.ndarray) -> np.ndarray:
    y = luma(image)
    centre = y[1:-1, 1:-1]

    def shifted(dy: int, dx: int) -> np.ndarray:
        return np.roll(y, (-dy, -dx), (0, 1))[1:-1, 1:-1]

    steps = ((0, 1), (1, 0), (1, 1), (1, -1))
    first = [moments(shifted(*s) - centre) for s in steps]
    second = [moments(shifted(*s) - 2 * centre + shifted(-s[0], -s[1])) for s in steps]
    return np.concatenate(first + second)
