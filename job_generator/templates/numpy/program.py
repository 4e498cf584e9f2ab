"""What each worker trains, and on what: any object with the three methods below will do."""

from typing import Any

import numpy as np

from fl_worker import Site

Weights = dict[str, np.ndarray]
UNITS = np.array([0.25, 0.5, 1.0, 2.0])  # each feature is measured in one of its own


def shard(site: Site) -> tuple[np.ndarray, np.ndarray]:
    """This worker's examples: x float32 [n, 4], y float32 [n].

    With `fl-submit run job.yaml --data 'shards/{index}.npz'` they come from a file with the arrays x and y.
    Without, they are two clouds of points, a little different at each site: replace them with your own.
    """
    if site.data:
        with np.load(site.data) as file:
            return file["x"].astype("float32"), file["y"].astype("float32")
    random = np.random.default_rng([site.seed, site.index])
    y = random.integers(0, 2, size=240)
    x = UNITS * (random.normal(size=(y.size, 4)) + 0.8 * (2 * y[:, None] - 1))
    return x.astype("float32"), y.astype("float32")


class LogisticRegression:
    """Gradient descent, written out."""

    def __init__(self, x: np.ndarray, y: np.ndarray, *, learning_rate: float, steps: int) -> None:
        held_out = len(y) // 5  # measured on after each round, never trained on
        self.test = x[:held_out], y[:held_out]
        self.train_on = x[held_out:], y[held_out:]
        self.learning_rate = learning_rate
        self.steps = steps

    def weights(self) -> Weights:
        """The first model; it must be the same at every worker."""
        return {"w": np.zeros(self.test[0].shape[1], "float32"), "b": np.zeros(1, "float32")}

    def train(self, weights: Weights) -> tuple[Weights, int]:
        """The weights after local training, and the number of examples they were trained on."""
        x, y = self.train_on
        w, b = weights["w"], weights["b"]
        for _ in range(self.steps):
            wrong = _probability(x, w, b) - y
            w = w - np.float32(self.learning_rate) * (x.T @ wrong) / np.float32(len(y))
            b = b - np.float32(self.learning_rate) * wrong.mean(keepdims=True)
        return {"w": w, "b": b}, len(y)

    def evaluate(self, weights: Weights) -> dict[str, float]:
        """Named values on data that is not trained on, and how many examples that is."""
        x, y = self.test
        probability = _probability(x, weights["w"], weights["b"])
        surprise = -np.log(np.maximum(np.where(y == 1, probability, 1 - probability), 1e-7))
        right = probability.round() == y
        return {"loss": float(surprise.mean()), "accuracy": float(right.mean()), "examples": len(y)}


def _probability(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-(x @ w + b)))


def task(config: dict[str, Any], site: Site) -> LogisticRegression:
    return LogisticRegression(*shard(site), **config)
