"""Error level analysis, from the same errors per block as the ghosts."""

import numpy as np

from .ghost import block_errors


def values(image: np.ndarray) -> np.ndarray:
    out: list[float] = []
    for quality in (90, 95):
        errors = block_errors(image, quality)
        logs = np.log(errors + 0.01)
        ends = np.quantile(logs, [0.1, 0.9], method="lower")
        out += [errors.mean(), errors.std(), logs.mean(), logs.std(), *ends]
    return np.array(out)
