"""FedProx: FedAvg whose local loss pulls towards the model that was received.

Li et al., Federated Optimization in Heterogeneous Networks, MLSys 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from fl_core.strategies import LocalWork, State
from fl_core.weights import Weights, add

__all__ = ["FedProx"]


@dataclass(frozen=True, slots=True)
class FedProx:
    """Local training is held near the model that was received, by a proximal term in the loss."""

    mu: Annotated[float, Field(ge=0, description="Weighs the term (mu / 2) * |w - w_received|^2.")]

    @property
    def local(self) -> LocalWork:
        """Local training with the proximal term."""
        return LocalWork(proximal=self.mu)

    def weight(self, examples: int) -> int:
        """One vote per example."""
        return examples

    def step(self, model: Weights, mean: Weights, state: State) -> tuple[Weights, State]:
        """Model plus mean difference."""
        return add(model, mean), state
