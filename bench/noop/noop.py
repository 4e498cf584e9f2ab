"""The program of our clients: it trains nothing and returns the weights it got, but for one value.

A worker fetches no model that it has already, so that a round which changed nothing would spare the next one
all downloads, and be half a round. That is why one value of the model counts the rounds.
"""

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
        """Train nothing, and make the model another one."""
        weights["tensor-0"][0] += 1
        return weights, 1

    def evaluate(self, weights: Weights) -> dict[str, float]:
        """Measure nothing."""
        del weights
        return {}


def task(config: dict[str, Any], site: object) -> Noop:
    """Make what `program.entrypoint` names."""
    del site
    return Noop(config["elements"])
