"""FedSGD: one step of gradient descent per round, on the data of the whole cohort.

McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data, AISTATS 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from fl_core.strategies import LocalWork, State
from fl_core.weights import Weights, add

__all__ = ["FedSGD"]


@dataclass(frozen=True, slots=True)
class FedSGD:
    """The workers send minus the gradient of their mean loss, and the server takes one step."""

    learning_rate: Annotated[float, Field(gt=0, description="The size of the server's step.")]

    @property
    def local(self) -> LocalWork:
        """One full-batch gradient, no local step."""
        return LocalWork(kind="gradient")

    def weight(self, examples: int) -> int:
        """One vote per example, so the mean is the gradient over all of the cohort's examples."""
        return examples

    def step(self, model: Weights, mean: Weights, state: State) -> tuple[Weights, State]:
        """Model minus learning rate times gradient."""
        return add(model, {name: self.learning_rate * array for name, array in mean.items()}), state
