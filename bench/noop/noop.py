"""The program of our clients: it trains nothing and returns the weights it got."""

from typing import Any

import numpy as np

Weights = dict[str, np.ndarray]


class Noop:
    """A plain object for the numpy backend, with a model of the size that the plan's configuration names."""

    def __init__(self, elements: int) -> None:
        self._elements = elements

    def weights(self) -> Weights:
        """Make the model that the peers' servers begin with: ten equal tensors of random values."""
        tensors = np.random.default_rng(0).standard_normal((10, self._elements // 10), np.float32)
        return {f"tensor-{number}": tensor for number, tensor in enumerate(tensors)}

    def train(self, weights: Weights) -> tuple[Weights, int]:
        """Train nothing."""
        return weights, 1

    def evaluate(self, weights: Weights) -> dict[str, float]:
        """Measure nothing."""
        del weights
        return {}


def task(config: dict[str, Any], site: object) -> Noop:
    """Make what `program.entrypoint` names."""
    del site
    return Noop(config["elements"])
