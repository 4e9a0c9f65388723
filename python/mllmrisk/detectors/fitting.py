"""Fits the standard classifier behind `forensic`, behind the leak probes and on frozen embeddings.

A regularised logistic regression and a second, curved part (gradient boosting or a small perceptron; scikit-learn),
each judged by group-wise cross-validation inside the training images, blended on the logit scale by the weight that
serves there best, then calibrated on the same cross-fitted scores (Platt 1999). Nothing here sees an image that the
caller has not given for training.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mllmrisk import metrics
from mllmrisk.errors import MissingExtraError

try:
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits
except ModuleNotFoundError as missing:
    raise MissingExtraError("training a detector", "train") from missing

Array = NDArray[np.float64]

#: Inverse regularisation strengths tried for the logistic regression, strongest first.
STRENGTHS = (1e-3, 3e-3)
#: Shares of the gradient boosting tried in the blend.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
#: The curved part comes in only where it raises the inner AUC by this much: the linear one carries further elsewhere.
_WORTH = 0.01
#: Standardised values are clipped here, so that one odd image cannot run away with a linear score.
CLIP = 3.0
#: Hidden units of the perceptron, and the weight of its squared weights.
_UNITS, _DECAY = 32, 10.0


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


class Perceptron(NamedTuple):
    """One hidden layer of rectified units on standardised, clipped values.

    Attributes:
        mean, scale: (d,).
        hidden, hidden_bias: (d, h) and (h,).
        output, bias: (h,) and a number.
    """

    mean: Array
    scale: Array
    hidden: Array
    hidden_bias: Array
    output: Array
    bias: float

    def logits(self, values: NDArray[np.float32]) -> Array:
        """(n,) raw logits of (n, d) values."""
        standard = np.clip((values - self.mean) / self.scale, -CLIP, CLIP)
        active: Array = np.maximum(standard @ self.hidden + self.hidden_bias, 0.0)
        return active @ self.output + self.bias


class Choice(NamedTuple):
    """What :func:`fit` chooses from.

    Attributes:
        strengths: inverse regularisation strengths of the logistic regression, strongest first.
        shares: shares of the curved part, 0 first.
        curved: fits the curved part: (rows, mask of the rows to fit on, seed) → model.
        logits: (model, (n, d) values) → (n,) raw logits.
    """

    strengths: tuple[float, ...]
    shares: tuple[float, ...]
    curved: Callable[[Rows, NDArray[np.bool_], int], Any]
    logits: Callable[[Any, NDArray[np.float32]], Array]


class Fitted(NamedTuple):
    """A classifier with the scores that its training rows got from models that had not seen their group.

    Attributes:
        curved: the gradient boosting or the perceptron, None where its share is 0.
        share: its weight in the blend, on the logit scale.
        slope, offset: Platt calibration of the blend.
        inner: (rows,) cross-fitted calibrated logits; NaN for rows that are not primary.
        inner_auc: their AUC.
        strength: inverse regularisation strength of the logistic regression.
    """

    linear: Linear
    curved: GradientBoostingClassifier | Perceptron | None
    share: float
    slope: float
    offset: float
    inner: Array
    inner_auc: float
    strength: float

    def told(self) -> dict[str, float]:
        """What was chosen, for training records."""
        return {
            "share_of_trees" if self.perceptron is None else "share_of_perceptron": self.share,
            "strength": self.strength,
            "calibration_slope": self.slope,
            "calibration_offset": self.offset,
        }

    def logits(self, values: NDArray[np.float32]) -> Array:
        """(n,) calibrated logits of (n, d) values."""
        blend = (1 - self.share) * self.linear.logits(values)
        if self.perceptron is not None:
            blend = blend + self.share * self.perceptron.logits(values)
        if self.trees is not None:
            blend = blend + self.share * _tree_logits(self.trees, values)
        return self.slope * blend + self.offset

    @property
    def trees(self) -> GradientBoostingClassifier | None:
        """The curved part where it is a gradient boosting."""
        return None if isinstance(self.curved, Perceptron) else self.curved

    @property
    def perceptron(self) -> Perceptron | None:
        """The curved part where it is a perceptron."""
        return self.curved if isinstance(self.curved, Perceptron) else None


def fit(rows: Rows, *, seed: int, folds: int = 4, choice: Choice | None = None) -> Fitted:
    """Fits the classifier.

    Args:
        rows: to train on.
        seed: of the inner folds and of the curved part.
        folds: inner ones.
        choice: what to choose from; :data:`BOOSTED` where None.

    Raises:
        ValueError: the rows hold one label only.
    """
    if rows.labels.all() or not rows.labels.any():
        raise ValueError("training needs both photographs and generated images")
    # Matrices of a few hundred rows: several threads of BLAS take three times as long as one.
    with threadpool_limits(1):
        return _fit(rows, seed, folds, choice or BOOSTED)


def _fit(rows: Rows, seed: int, folds: int, choice: Choice) -> Fitted:
    inner = _inner_folds(rows, folds, seed)
    linear = np.full((len(choice.strengths), len(rows.labels)), np.nan)
    curved = np.full(len(rows.labels), np.nan)
    for fold in np.unique(inner):
        seen, unseen = inner != fold, (inner == fold) & rows.primary
        if rows.labels[seen].all() or not rows.labels[seen].any() or not unseen.any():
            continue
        for i, strength in enumerate(choice.strengths):
            linear[i, unseen] = _fit_linear(rows, seen, strength).logits(rows.values[unseen])
        curved[unseen] = choice.logits(choice.curved(rows, seen, seed), rows.values[unseen])
    scored = np.isfinite(curved)
    strength_index, share, inner_auc = _choose(choice, linear, curved, rows, scored, inner)
    everything = np.ones(len(rows.labels), dtype=bool)
    blend = (1 - share) * linear[strength_index] + share * curved
    slope, offset = _platt(blend[scored], rows.labels[scored], rows.weights[scored])
    return Fitted(
        linear=_fit_linear(rows, everything, choice.strengths[strength_index]),
        curved=choice.curved(rows, everything, seed) if share else None,
        share=share,
        slope=slope,
        offset=offset,
        inner=slope * blend + offset,
        inner_auc=inner_auc,
        strength=choice.strengths[strength_index],
    )


def _choose(
    choice: Choice, linear: Array, curved: Array, rows: Rows, scored: NDArray[np.bool_], inner: NDArray[np.int64]
) -> tuple[int, float, float]:
    """The strength and the share with the best inner AUC; the simpler one where they tie."""
    labels, strata = rows.labels[scored], inner[scored]

    def auc(values: Array) -> float:
        return metrics.auc(values, labels, strata=strata)

    by_strength = [auc(values[scored]) for values in linear]
    best = int(np.argmax(by_strength))
    by_share = [auc((1 - share) * linear[best][scored] + share * curved[scored]) for share in choice.shares]
    chosen = int(np.argmax(by_share))
    if by_share[chosen] < by_share[0] + _WORTH:
        chosen = 0
    return best, choice.shares[chosen], by_share[chosen]


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


def _moments(values: Array, weights: Array) -> tuple[Array, Array]:
    mean = np.average(values, axis=0, weights=weights)
    scale = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights))
    scale[scale < 1e-12 + 1e-9 * np.abs(mean)] = np.inf  # a constant column says nothing
    return mean, scale


def _fit_linear(rows: Rows, seen: NDArray[np.bool_], strength: float) -> Linear:
    values, weights = rows.values[seen].astype(np.float64), _balanced(rows.labels[seen], rows.weights[seen])
    mean, scale = _moments(values, weights)
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


def _fit_perceptron(rows: Rows, seen: NDArray[np.bool_], seed: int) -> Perceptron:
    values, weights = rows.values[seen].astype(np.float64), _balanced(rows.labels[seen], rows.weights[seen])
    mean, scale = _moments(values, weights)
    standard = np.clip((values - mean) / scale, -CLIP, CLIP)
    model = MLPClassifier((_UNITS,), alpha=_DECAY, solver="lbfgs", max_iter=200, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 200 steps are the recipe, an early stop among others
        model.fit(standard, rows.labels[seen], sample_weight=weights / weights.mean())
    (hidden, output), (hidden_bias, bias) = model.coefs_, model.intercepts_
    return Perceptron(mean, scale, hidden, hidden_bias, output[:, 0], float(bias[0]))


def _balanced(labels: NDArray[np.bool_], weights: Array) -> Array:
    """The weights with both labels brought to half of the total, whatever the training images hold of them."""
    balanced = weights.copy()
    for label in (False, True):
        balanced[labels == label] *= 0.5 * weights.sum() / weights[labels == label].sum()
    return balanced


def _tree_logits(trees: GradientBoostingClassifier, values: NDArray[np.float32]) -> Array:
    logits: Array = trees.decision_function(values)
    return logits


#: Trees beside the linear part: for features and for the facts of the leak probes.
BOOSTED = Choice(STRENGTHS, SHARES, _fit_trees, _tree_logits)
#: A perceptron in place of the linear part, where it pays: for embeddings.
PERCEPTRON = Choice((1e-3, 1e-2), (0.0, 1.0), _fit_perceptron, Perceptron.logits)


def _platt(logits: Array, labels: NDArray[np.bool_], weights: Array) -> tuple[float, float]:
    """Slope and offset of the calibration; a slope below zero would turn the detector round and is refused."""
    model = LogisticRegression(C=100.0)
    model.fit(logits[:, None], labels, sample_weight=_balanced(labels, weights))
    return max(float(model.coef_[0, 0]), 1e-3), float(model.intercept_[0])
