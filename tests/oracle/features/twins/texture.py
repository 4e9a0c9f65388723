"""Rich against poor texture."""

import numpy as np

from .planes import FLOOR, luma, residual


def patches(plane: np.ndarray) -> np.ndarray:
    h, w = plane.shape[0] // 32, plane.shape[1] // 32
    return plane[: h * 32, : w * 32].reshape(h, 32, w, 32).swapaxes(1, 2).reshape(-1, 32, 32)


def pooled(r: np.ndarray, diversity: np.ndarray) -> np.ndarray:
    power = np.mean(r**2) + FLOOR
    pairs = (
        r[:, :, :-1] * r[:, :, 1:],
        r[:, :-1] * r[:, 1:],
        r[:, :-1, :-1] * r[:, 1:, 1:],
        r[:, :-1, 1:] * r[:, 1:, :-1],
    )
    return np.array(
        [
            np.log(np.mean(diversity) / 1024 + 0.01),
            np.log(power),
            np.mean(np.abs(r)) ** 2 / power,
            np.mean(r == 0),
            *(pair.sum() / r.size / power for pair in pairs),
        ]
    )


def twin(image: np.ndarray) -> np.ndarray:
    y, r = patches(luma(image)), patches(residual(image))
    diversity = (
        np.abs(np.diff(y, axis=2)).sum((1, 2))
        + np.abs(np.diff(y, axis=1)).sum((1, 2))
        + np.abs(y[:, 1:, 1:] - y[:, :-1, :-1]).sum((1, 2))
        + np.abs(y[:, 1:, :-1] - y[:, :-1, 1:]).sum((1, 2))
    )
    order = np.argsort(diversity, kind="stable")
    third = max(1, len(order) // 3)
    poor, rich = order[:third], order[-third:]
    base = pooled(r[poor], diversity[poor])
    return np.concatenate([base, pooled(r[rich], diversity[rich]) - base])
