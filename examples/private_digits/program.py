"""Handwritten digits, 8 x 8 pixels, by softmax regression in numpy: few weights, so that little noise is needed.

scikit-learn is needed for the data only.
"""

from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from fl_worker import Site, partition

Weights = dict[str, np.ndarray]

TEST = 360  # of 1,797 examples; no worker trains on them


class Softmax:
    """Gradient descent on the cross entropy of one layer."""

    def __init__(self, site: Site, *, learning_rate: float, steps: int) -> None:
        digits = load_digits()
        order = np.random.default_rng(site.seed).permutation(len(digits.target))
        images, labels = (digits.data[order] / 16).astype("float32"), digits.target[order]
        mine = partition.iid(len(labels) - TEST, site.count, seed=site.seed)[site.index] + TEST
        tested = partition.iid(TEST, site.count, seed=site.seed)[site.index]
        self.images, self.labels = images[mine], np.eye(10, dtype="float32")[labels[mine]]
        self.test = images[tested], labels[tested]
        self.learning_rate = np.float32(learning_rate)
        self.steps = steps

    def weights(self) -> Weights:
        """Zeros, the same at every worker."""
        return {"w": np.zeros((64, 10), "float32"), "b": np.zeros(10, "float32")}

    def train(self, weights: Weights) -> tuple[Weights, int]:
        """The weights after local training, and the number of examples they were trained on."""
        w, b = weights["w"], weights["b"]
        for _ in range(self.steps):
            wrong = (softmax(self.images @ w + b) - self.labels) / np.float32(len(self.labels))
            w, b = w - self.learning_rate * (self.images.T @ wrong), b - self.learning_rate * wrong.sum(0)
        return {"w": w, "b": b}, len(self.labels)

    def evaluate(self, weights: Weights) -> dict[str, float]:
        """The share of digits that are recognised, of those that nobody trains on."""
        images, labels = self.test
        right = (images @ weights["w"] + weights["b"]).argmax(1) == labels
        return {"accuracy": float(right.mean()), "examples": len(labels)}


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def task(config: dict[str, Any], site: Site) -> Softmax:
    return Softmax(site, **config)
