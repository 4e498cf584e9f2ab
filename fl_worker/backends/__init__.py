"""What drives a program: one file per framework, named by the YAML word `program.framework`.

Here is what all of them promise, and the checks they share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from fl_core.errors import MismatchError, ProgramError, UpdateError
from fl_core.metrics import Measurement, Metric, mean_of
from fl_core.weights import Array, Manifest, Weights, check_finite

Moved = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Trained:
    """An update (new minus received, or minus a gradient) and what training measured, "loss" among it.

    `source` is the user's function that made it, where training is not the framework's own.
    """

    update: dict[str, Array]
    examples: int
    metrics: dict[str, Measurement]
    source: str = ""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What a model measured on one worker's test data; empty without such data."""

    examples: int = 0
    metrics: dict[str, Measurement] = field(default_factory=dict)


class Backend(Protocol):
    """A loaded program: its class is made with (what `task` returned, site=..., work=...)."""

    moves: ClassVar[bool]
    """Whether `moved` is called batch by batch, so that silence means a stall."""

    @staticmethod
    def reseed(value: int) -> None:
        """Seed every random stream that a program of this framework may draw from."""
        ...

    def weights(self) -> dict[str, Array]:
        """Copy the initial weights; after any training still those, for they leave the worker in the clear."""
        ...

    def train(self, weights: Weights, *, round: int, moved: Moved) -> Trained:
        """Train one round from these weights; the same round gives the same update."""
        ...

    def evaluate(self, weights: Weights, *, moved: Moved) -> Evaluated:
        """Measure these weights on the test data."""
        ...

    def save(self, weights: Weights, path: Path) -> None:
        """Write these weights in the framework's own format."""
        ...

    def holding(self, weights: Weights) -> Any:  # noqa: ANN401 - what the user's function returned
        """Give back what the program's function returned, its model with these weights and ready to predict."""
        ...


def checked_initial(weights: Weights) -> dict[str, Array]:
    """Copy a program's initial weights; refuses those that cannot travel."""
    if not weights:
        raise ProgramError("the model has no weights; give a model with at least one array of numbers")
    try:
        Manifest.of(weights)
        check_finite(weights, whose="the initial weights")
    except (MismatchError, UpdateError) as error:
        raise ProgramError(f"the model cannot be used: {error}") from error
    return {name: np.array(array, order="C") for name, array in weights.items()}


def diverged(weights: Weights, examples: int) -> Trained:
    """What a training gives whose numbers grew beyond all bounds, where the framework raises: none of them is one."""
    update = {name: np.full_like(array, np.nan) for name, array in weights.items()}
    return Trained(update, examples, {"loss": mean_of(np.nan, examples)})


def check_same(received: Weights, found: object, *, source: str) -> dict[str, Array]:
    """Refuse arrays from user code that are not like those of the model: names, dtypes, shapes."""
    if not isinstance(found, Mapping) or not all(isinstance(array, np.ndarray) for array in found.values()):
        raise ProgramError(f"{source} must give a dictionary of numpy arrays, not {type(found).__name__}")
    if set(found) == set(received):
        found = {name: found[name] for name in received}
    try:
        different = Manifest.of(received).difference(Manifest.of(found))
    except MismatchError as error:
        raise ProgramError(f"{source} must give arrays like those of the model: {error}") from error
    if different:
        raise ProgramError(f"{source} must give arrays like those of the model: {different}")
    return dict(found)


def check_repeatable(data: Iterable[Any], *, name: str) -> None:
    """Refuse data that one pass would use up, without walking: a loader's thread would draw random numbers."""
    if not hasattr(data, "__iter__") and not hasattr(data, "__getitem__"):
        raise ProgramError(
            f"Task({name}=...): give batches that can be walked through, not {type(data).__name__}"
        )
    if hasattr(data, "__next__"):
        raise ProgramError(
            f"Task({name}=...): a generator is used up after one pass, but each round needs one; "
            "give a data loader or a list of batches"
        )


class Tally:
    """Sums over batches: examples, loss, and the vectors of the task's metrics."""

    def __init__(self, metrics: Mapping[str, Metric]) -> None:
        self._metrics = metrics
        self._loss = 0.0
        self._sums: dict[str, Measurement] = {}
        self.examples = 0

    def count(self, loss: float, examples: int) -> None:
        """Add a batch's mean loss."""
        self._loss += loss * examples
        self.examples += examples

    def measure(self, predictions: Array, labels: Array) -> None:
        """Add a batch's metrics."""
        for name, metric in self._metrics.items():
            part = Measurement(metric, metric.measure(predictions, labels))
            self._sums[name] = self._sums[name] + part if name in self._sums else part

    def measurements(self) -> dict[str, Measurement]:
        """Give all sums; the loss first."""
        mean = self._loss / self.examples if self.examples else 0.0
        return {"loss": mean_of(mean, self.examples), **self._sums}
