"""DP-SGD at a worker: private steps from the gradients that a program gives of single examples.

Which examples are in a step, how far each one's gradient counts and how much noise is added is decided here and not by
the program (`fl_core.privacy.mechanisms.dp_sgd`, with its source). Randomness is the operating system's: the job's seed
has no part in it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import numpy as np
import numpy.typing as npt
import structlog

from fl_core.errors import MismatchError, ProgramError, SpecError
from fl_core.plan import Plan
from fl_core.privacy.job import mechanism_of
from fl_core.privacy.mechanisms.dp_sgd import DpSgd
from fl_core.privacy.stream import Random
from fl_core.strategies import LocalWork
from fl_core.weights import Array, Manifest, Weights
from fl_worker.backends import Backend, Evaluated, Moved, Trained

log = structlog.get_logger()

Places = npt.NDArray[np.int64]

WORK = LocalWork(kind="examples")
"""What is asked of a backend under DP-SGD, whatever the strategy is: it only gives gradients."""


class PerExample(Protocol):
    """What a backend offers beside the rest where it knows the gradient of each example."""

    @property
    def examples(self) -> int:
        """How many this worker trains on."""
        ...

    def gradients(self, weights: Weights, places: Places) -> dict[str, Array]:
        """The gradients of the loss of these examples at these weights: arrays of shape [examples, ...] by name."""
        ...


def mechanism_for(plan: Plan, work: LocalWork) -> DpSgd | None:
    """The plan's DP-SGD; None where it has another mechanism or none. Refuses a strategy that has steps of its own."""
    if plan.privacy is None or plan.privacy.unit != "example":
        return None
    mechanism = mechanism_of(plan)
    if not isinstance(mechanism, DpSgd):
        raise SpecError(
            f"spec.privacy.mechanism: {plan.privacy.mechanism.name} does not hide examples (spec.privacy.unit); "
            "expected dp_sgd"
        )
    if work != LocalWork():
        raise SpecError(
            f"spec.strategy: {plan.strategy.name} changes how workers train, and dp_sgd makes their steps itself; "
            "expected fedavg"
        )
    return mechanism


@dataclass(frozen=True, slots=True)
class Descent:
    """A backend whose training is DP-SGD; everything else is the backend's own."""

    backend: Backend
    mechanism: DpSgd
    random: Random = os.urandom

    moves: ClassVar[bool] = True

    @staticmethod
    def reseed(value: int) -> None:
        """Nothing is drawn from a seed here; the backend has been seeded already."""

    def weights(self) -> dict[str, Array]:
        """Copy the initial weights."""
        return self.backend.weights()

    def train(self, weights: Weights, *, round: int, moved: Moved) -> Trained:
        """Take the mechanism's steps from these weights; `round` changes nothing, as no draw is ever repeated."""
        del round
        source = _per_example(self.backend)
        at = {name: array.astype(np.float64) for name, array in weights.items()}
        all_finite = True
        for _ in range(self.mechanism.steps):
            places = self.mechanism.sample(source.examples, self.random)
            here = {name: array.astype(weights[name].dtype) for name, array in at.items()}
            found = _gradients(source, here, places)
            all_finite = all_finite and all(np.isfinite(array).all() for array in found.values())
            step = self.mechanism.gradient(found, examples=source.examples, random=self.random)
            at = {name: array - self.mechanism.learning_rate * step[name] for name, array in at.items()}
            moved()
        if not all_finite:
            log.warning("gradients of examples that are not finite numbers count as zeros")
        update: dict[str, Array] = {name: array - weights[name] for name, array in at.items()}
        return Trained(update, source.examples, {})

    def evaluate(self, weights: Weights, *, moved: Moved) -> Evaluated:
        """Measure these weights on the test data."""
        return self.backend.evaluate(weights, moved=moved)

    def save(self, weights: Weights, path: Path) -> None:
        """Write these weights in the framework's own format."""
        self.backend.save(weights, path)

    def holding(self, weights: Weights) -> Any:  # noqa: ANN401 - what the user's function returned
        """Give back what the program's function returned, its model with these weights."""
        return self.backend.holding(weights)


def _per_example(backend: Backend) -> PerExample:
    if not hasattr(type(backend), "gradients"):
        raise ProgramError(
            f"{type(backend).__name__} gives no gradients of single examples, which dp_sgd needs; "
            "use the framework numpy or sklearn, or the mechanism skellam"
        )
    return cast("PerExample", backend)


def _gradients(source: PerExample, weights: Weights, places: Places) -> Weights:
    """What the program gives, if it is of the right shapes; nothing is asked where no example was drawn."""
    if not places.size:
        return {name: np.zeros((0, *array.shape)) for name, array in weights.items()}
    found = source.gradients(weights, places)
    expected = {name: (places.size, *array.shape) for name, array in weights.items()}
    try:
        shapes = {spec.name: spec.shape for spec in Manifest.of(found)}
    except (MismatchError, AttributeError, TypeError) as error:
        raise ProgramError(
            f"gradients(weights, places) must give arrays like the model's: {error}"
        ) from error
    if shapes != expected:
        raise ProgramError(
            f"gradients(weights, places) gave the shapes {shapes}; expected one gradient for each of "
            f"{places.size} places, {expected}"
        )
    return {name: found[name] for name in weights}
