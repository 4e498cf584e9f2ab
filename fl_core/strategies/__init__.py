"""How workers train and how the server steps: one file per strategy, named by its YAML word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from fl_core.weights import Weights

State = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LocalWork:
    """What a strategy asks of a worker's backend.

    `proximal` is the mu of the term (mu / 2) * |w - w_received|^2 in the loss; `kind` is
    `train` (the update is the weights after training minus the weights received), `gradient`
    (the update is minus the gradient of the mean loss over all local examples), or `examples`
    (no strategy's: the gradients of single examples are asked for, as differential privacy takes them).
    """

    kind: Literal["train", "gradient", "examples"] = "train"
    proximal: float = 0.0


class Strategy(Protocol):
    """Two pure functions and what the workers are asked to do."""

    @property
    def local(self) -> LocalWork:
        """What each worker does with the model it gets."""
        ...

    def weight(self, examples: int) -> int:
        """How much an update counts that was made from so many examples; a positive whole number."""
        ...

    def step(self, model: Weights, mean: Weights, state: State) -> tuple[Weights, State]:
        """The next model from this one and the weighted mean of the updates."""
        ...
