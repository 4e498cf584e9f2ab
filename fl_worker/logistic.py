"""Logistic regression: the gradient of the log loss of each example, in closed form."""

from __future__ import annotations

import numpy as np

from fl_core.weights import Array, Weights


def gradients(weights: Weights, x: Array, labels: Array, *, joint: bool, intercept: bool) -> dict[str, Array]:
    """Gradients at `coef_` [k, columns] and `intercept_` [k] for rows x [n, columns] with labels 0, 1, ... [n].

    One row of weights tells label 1 from label 0. With more, each has its label: either together by a softmax
    (`joint`), or each for itself against all others. Without `intercept` that stays where it is.
    """
    coefficients = weights["coef_"]
    scores = x @ coefficients.T + weights["intercept_"]
    rows = np.array([1]) if len(coefficients) == 1 else np.arange(len(coefficients))
    likely = _softmax(scores) if joint and len(rows) > 1 else _sigmoid(scores)
    wrong = likely - (labels[:, None] == rows)
    return {"coef_": wrong[:, :, None] * x[:, None, :], "intercept_": wrong * float(intercept)}


def _sigmoid(scores: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * scores)))


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
