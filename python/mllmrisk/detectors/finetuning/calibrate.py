"""From a network's logits to logits that mean what they say, on images that neither fitting nor validation has seen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Isotonic calibration from so many images of each label (Niculescu-Mizil and Caruana 2005: below about a thousand it
#: follows the sample); a slope and an offset (Platt 1999) otherwise.
ISOTONIC = 1000
#: No calibration is flatter than this: it keeps the order of scores, and with it thresholds and AUC.
FLATTEST = 1e-3
#: Newton steps; a fit of two numbers takes about six.
_STEPS = 50


class Calibration(NamedTuple):
    """A rising, piecewise linear function of a logit: straight for `platt`, through its knots for `isotonic`.

    Attributes:
        method: `platt` or `isotonic`.
        knots: (k,) rising raw logits.
        values: (k,) calibrated logits at the knots.
        slopes: (k + 1,) before the first knot, between knots, after the last.
    """

    method: str
    knots: Array
    values: Array
    slopes: Array

    def __call__(self, logits: Array) -> Array:
        """(n,) calibrated logits."""
        x = np.asarray(logits, dtype=np.float64)
        out = self.values[0] + self.slopes[0] * np.minimum(x - self.knots[0], 0)
        for i in range(len(self.knots) - 1):
            out = out + self.slopes[i + 1] * np.clip(x - self.knots[i], 0, self.knots[i + 1] - self.knots[i])
        return np.asarray(out + self.slopes[-1] * np.maximum(x - self.knots[-1], 0))


def fit(logits: Array, labels: NDArray[np.bool_], *, one_row: bool) -> Calibration:
    """The calibration of logits, both labels weighing the same.

    Args:
        logits: (n,) of the calibration split.
        labels: (n,) True for generated.
        one_row: whether an image is one row of the network's input. Where its score is a mean over tiles only a
            straight line calibrates the mean by calibrating each tile, so that isotonic calibration is left out.
    """
    weights = np.where(labels, 0.5 / labels.sum(), 0.5 / (~labels).sum())
    fewest = min(int(labels.sum()), int((~labels).sum()))
    if one_row and fewest >= ISOTONIC:
        return _isotonic(logits, labels, weights)
    slope, offset = _platt(logits, labels, weights)
    return Calibration("platt", np.zeros(1), np.array([offset]), np.array([slope, slope]))


def _platt(logits: Array, labels: NDArray[np.bool_], weights: Array) -> tuple[float, float]:
    """Slope and offset by Newton's method; targets drawn in as Platt does, so that separable scores stay finite."""
    real, fake = int((~labels).sum()), int(labels.sum())
    target = np.where(labels, (fake + 1) / (fake + 2), 1 / (real + 2))
    centre, spread = float(logits.mean()), float(logits.std()) or 1.0
    design = np.column_stack([(logits - centre) / spread, np.ones(len(logits))])
    beta = np.zeros(2)
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        curvature = (design * (weights * p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, design.T @ (weights * (target - p)))
        beta = beta + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    slope = beta[0] / spread
    if slope < FLATTEST:  # a detector that is wrong on its calibration images is flattened, never turned round
        return FLATTEST, -FLATTEST * centre
    return float(slope), float(beta[1] - beta[0] * centre / spread)


def _isotonic(logits: Array, labels: NDArray[np.bool_], weights: Array) -> Calibration:
    """Isotonic regression, straight between the centres of its steps (Oron and Flournoy 2017), so that nothing ties."""
    from sklearn.isotonic import isotonic_regression

    order = np.argsort(logits, kind="stable")
    x, y, w = logits[order], labels[order].astype(np.float64), weights[order]
    edge = 1 / (min(int(labels.sum()), int((~labels).sum())) + 2)
    p = np.clip(isotonic_regression(y, sample_weight=w), edge, 1 - edge)
    step = np.concatenate([[0], np.cumsum(np.diff(p) > 0)])
    mass = np.bincount(step, w)
    knots = np.bincount(step, w * x) / mass
    values = np.bincount(step, w * np.log(p / (1 - p))) / mass
    rising = np.concatenate([[True], np.diff(knots) > 1e-9])
    knots, values = knots[rising], values[rising]
    slopes = np.maximum(np.diff(values) / np.diff(knots), FLATTEST) if len(knots) > 1 else np.zeros(0)
    values = values[0] + np.concatenate([[0.0], np.cumsum(slopes * np.diff(knots))])
    return Calibration("isotonic", knots, values, np.concatenate([[FLATTEST], slopes, [FLATTEST]]))
