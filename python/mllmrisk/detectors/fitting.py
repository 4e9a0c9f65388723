"""Fits the standard classifier behind `forensic` and behind the leak probes.

A regularised logistic regression and a gradient boosting (scikit-learn), each judged by group-wise cross-validation
inside the training images, blended on the logit scale by the weight that serves there best, then calibrated on the
same cross-fitted scores (Platt 1999). Nothing here sees an image that the caller has not given for training.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mllmrisk import metrics
from mllmrisk.errors import MissingExtraError

try:
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
except ModuleNotFoundError as missing:
    raise MissingExtraError("training a detector", "train") from missing

Array = NDArray[np.float64]

#: Inverse regularisation strengths tried for the logistic regression, strongest first.
STRENGTHS = (1e-3, 3e-3)
#: Shares of the gradient boosting tried in the blend.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
#: The trees come in only where they raise the inner AUC by this much: the linear part carries further elsewhere.
_WORTH = 0.01
#: Standardised values are clipped here, so that one odd image cannot run away with a linear score.
CLIP = 3.0
#: Probabilities closer to 0 or 1 than this are not told apart.
_EDGE = 1e-6


class Rows(NamedTuple):
    """Training rows: several per image where crops or perturbations multiply it.

    Attributes:
        values: (n, d) float.
        labels: (n,) bool, True for fake.
        groups: (n,) int64: rows of one group never stand on both sides of an inner split.
        images: (n,) int64: the image of each row; it takes the group's place for a label that has one group only.
        weights: (n,) float.
        primary: (n,) bool: the rows that inner scores are taken from (one way of looking per image).
    """

    values: NDArray[np.float32]
    labels: NDArray[np.bool_]
    groups: NDArray[np.int64]
    images: NDArray[np.int64]
    weights: Array
    primary: NDArray[np.bool_]


class Linear(NamedTuple):
    """A logistic regression on standardised, clipped values."""

    mean: Array
    scale: Array
    coefficients: Array
    intercept: float

    def logits(self, values: NDArray[np.float32]) -> Array:
        """(n,) raw logits of (n, d) values."""
        standard = np.clip((values - self.mean) / self.scale, -CLIP, CLIP)
        return standard @ self.coefficients + self.intercept


class Fitted(NamedTuple):
    """A classifier with the scores that its training rows got from models that had not seen their group.

    Attributes:
        trees: the gradient boosting, None where its share is 0.
        share: its weight in the blend, on the logit scale.
        slope, offset: Platt calibration of the blend.
        inner: (rows,) cross-fitted calibrated logits; NaN for rows that are not primary.
        inner_auc: their AUC.
        strength: inverse regularisation strength of the logistic regression.
    """

    linear: Linear
    trees: GradientBoostingClassifier | None
    share: float
    slope: float
    offset: float
    inner: Array
    inner_auc: float
    strength: float

    def told(self) -> dict[str, float]:
        """What was chosen, for training records."""
        return {
            "share_of_trees": self.share,
            "strength": self.strength,
            "calibration_slope": self.slope,
            "calibration_offset": self.offset,
        }

    def logits(self, values: NDArray[np.float32]) -> Array:
        """(n,) calibrated logits of (n, d) values."""
        blend = (1 - self.share) * self.linear.logits(values)
        if self.trees is not None:
            blend = blend + self.share * _tree_logits(self.trees, values)
        return self.slope * blend + self.offset


def fit(rows: Rows, *, seed: int, folds: int = 4) -> Fitted:
    """Fits the classifier.

    Raises:
        ValueError: the rows hold one label only.
    """
    if rows.labels.all() or not rows.labels.any():
        raise ValueError("training needs both photographs and generated images")
    inner = _inner_folds(rows, folds, seed)
    linear = np.full((len(STRENGTHS), len(rows.labels)), np.nan)
    boosted = np.full(len(rows.labels), np.nan)
    for fold in np.unique(inner):
        seen, unseen = inner != fold, (inner == fold) & rows.primary
        if rows.labels[seen].all() or not rows.labels[seen].any() or not unseen.any():
            continue
        for i, strength in enumerate(STRENGTHS):
            linear[i, unseen] = _fit_linear(rows, seen, strength).logits(rows.values[unseen])
        boosted[unseen] = _tree_logits(_fit_trees(rows, seen, seed), rows.values[unseen])
    scored = np.isfinite(boosted)
    strength_index, share, inner_auc = _choose(linear, boosted, rows, scored, inner)
    everything = np.ones(len(rows.labels), dtype=bool)
    blend = (1 - share) * linear[strength_index] + share * boosted
    slope, offset = _platt(blend[scored], rows.labels[scored], rows.weights[scored])
    return Fitted(
        linear=_fit_linear(rows, everything, STRENGTHS[strength_index]),
        trees=_fit_trees(rows, everything, seed) if share else None,
        share=share,
        slope=slope,
        offset=offset,
        inner=slope * blend + offset,
        inner_auc=inner_auc,
        strength=STRENGTHS[strength_index],
    )


def _choose(
    linear: Array, boosted: Array, rows: Rows, scored: NDArray[np.bool_], inner: NDArray[np.int64]
) -> tuple[int, float, float]:
    """The strength and the share with the best inner AUC; the simpler one where they tie."""
    labels, strata = rows.labels[scored], inner[scored]

    def auc(values: Array) -> float:
        return metrics.auc(values, labels, strata=strata)

    by_strength = [auc(values[scored]) for values in linear]
    best = int(np.argmax(by_strength))
    by_share = [auc((1 - share) * linear[best][scored] + share * boosted[scored]) for share in SHARES]
    chosen = int(np.argmax(by_share))
    if by_share[chosen] < by_share[0] + _WORTH:
        chosen = 0
    return best, SHARES[chosen], by_share[chosen]


def _inner_folds(rows: Rows, count: int, seed: int) -> NDArray[np.int64]:
    """Folds of whole groups, the large ones dealt first, photographs and generated images apart."""
    rng = np.random.default_rng([seed, 0x1AAE])
    ids = rows.groups.copy()
    for label in (True, False):
        side = rows.labels == label
        if len(np.unique(ids[side])) < 2:
            ids[side] = rows.groups.max() + 1 + rows.images[side]
    fold = np.zeros(len(ids), dtype=np.int64)
    count = max(2, min(count, *(len(np.unique(ids[rows.labels == label])) for label in (True, False))))
    load = np.zeros((2, count))
    groups, sizes = np.unique(ids, return_counts=True)
    order = rng.permutation(len(groups))
    for i in order[np.argsort(-sizes[order], kind="stable")]:
        member = ids == groups[i]
        side = int(rows.labels[member].mean() >= 0.5)
        target = int(np.argmin(load[side] + 1e-6 * load.sum(axis=0)))
        load[side, target] += sizes[i]
        fold[member] = target
    return fold


def _fit_linear(rows: Rows, seen: NDArray[np.bool_], strength: float) -> Linear:
    values, weights = rows.values[seen].astype(np.float64), _balanced(rows.labels[seen], rows.weights[seen])
    mean = np.average(values, axis=0, weights=weights)
    scale = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights))
    scale[scale < 1e-12 + 1e-9 * np.abs(mean)] = np.inf  # a constant column says nothing
    if np.isinf(scale).all():  # nothing to read: as when every container is alike
        return Linear(mean, scale, np.zeros(len(mean)), 0.0)
    standard = np.clip((values - mean) / scale, -CLIP, CLIP)
    model = LogisticRegression(C=strength, solver="newton-cholesky", max_iter=200)
    with warnings.catch_warnings():
        # At a flat optimum the Newton step cannot improve; scikit-learn warns and goes on with L-BFGS.
        warnings.filterwarnings("ignore", category=ConvergenceWarning, message="Line search of Newton solver")
        model.fit(standard, rows.labels[seen], sample_weight=weights)
    return Linear(mean, scale, model.coef_[0], float(model.intercept_[0]))


def _fit_trees(rows: Rows, seen: NDArray[np.bool_], seed: int) -> GradientBoostingClassifier:
    labels = rows.labels[seen]
    model = GradientBoostingClassifier(
        n_estimators=100,
        learning_rate=0.06,
        max_depth=3,
        subsample=0.4,
        max_features=0.08,
        min_samples_leaf=5,
        init="zero",
        random_state=seed,
    )
    model.fit(rows.values[seen], labels, sample_weight=_balanced(labels, rows.weights[seen]))
    return model


def _balanced(labels: NDArray[np.bool_], weights: Array) -> Array:
    """The weights with both labels brought to half of the total, whatever the training images hold of them."""
    balanced = weights.copy()
    for label in (False, True):
        balanced[labels == label] *= 0.5 * weights.sum() / weights[labels == label].sum()
    return balanced


def _tree_logits(trees: GradientBoostingClassifier, values: NDArray[np.float32]) -> Array:
    logits: Array = trees.decision_function(values)
    return logits


def _platt(logits: Array, labels: NDArray[np.bool_], weights: Array) -> tuple[float, float]:
    """Slope and offset of the calibration; a slope below zero would turn the detector round and is refused."""
    model = LogisticRegression(C=100.0)
    model.fit(logits[:, None], labels, sample_weight=_balanced(labels, weights))
    return max(float(model.coef_[0, 0]), 1e-3), float(model.intercept_[0])
