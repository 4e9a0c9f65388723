"""Popescu-Farid: expectation maximisation over whole arrays, the constraint by a Lagrange multiplier."""

import numpy as np

NEIGHBOURS = [(-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1)]


def values(image: np.ndarray) -> np.ndarray:
    green = image[..., 1].astype(float)
    h, w = (min((n - 2) // 2 * 2, 256) for n in green.shape)
    top, left = (green.shape[0] - h) // 2, (green.shape[1] - w) // 2
    d = np.array([
        green[top + dy : top + dy + h, left + dx : left + dx + w] - green[top : top + h, left : left + w]
        for dy, dx in NEIGHBOURS
    ])  # fmt: skip
    weights, sigma = np.array([0.25] * 4 + [0.0] * 4), 2.0

    def probabilities() -> np.ndarray:
        r = np.tensordot(weights, d, 1)
        normal = np.exp(np.maximum(-(r**2) / (2 * sigma**2), -87)) / (sigma * np.sqrt(2 * np.pi))
        return normal / (normal + 1 / 256)

    some = np.arange(h) % 4 < 2
    for _ in range(5):
        p = probabilities()[some]
        products = np.einsum("yx,iyx,jyx->ij", p, d[:, some], d[:, some])
        system = np.ones((9, 9))
        system[:8, :8] = products + 0.01 * p.sum() * np.eye(8)
        system[8, 8] = 0
        weights = np.linalg.solve(system, np.eye(9)[8])[:8]
        sigma = np.sqrt(max(weights @ products @ weights / p.sum(), 1 / 12))
    p = probabilities()
    magnitude = np.abs(np.fft.rfft2(p - p.mean()))
    others = np.sort(magnitude.ravel()[1:])
    floor = others[len(others) // 2] + 1e-3 * np.sqrt(h * w)
    peaks = np.array([magnitude[h // 2, w // 2], magnitude[0, w // 2], magnitude[h // 2, 0]]) / floor
    return np.concatenate([peaks, [sigma, p.mean(), p.std()], weights])
