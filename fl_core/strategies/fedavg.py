"""FedAvg: the mean of the workers' models, weighted by examples.

McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data, AISTATS 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

from fl_core.strategies import LocalWork, State
from fl_core.weights import Weights, add

__all__ = ["FedAvg"]


@dataclass(frozen=True, slots=True)
class FedAvg:
    """Train locally, average the differences, add the average."""

    @property
    def local(self) -> LocalWork:
        """Plain local training."""
        return LocalWork()

    def weight(self, examples: int) -> int:
        """One vote per example."""
        return examples

    def step(self, model: Weights, mean: Weights, state: State) -> tuple[Weights, State]:
        """Model plus mean difference."""
        return add(model, mean), state
