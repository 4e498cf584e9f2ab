"""Any object with three methods, on numpy arrays: `weights`, `train`, `evaluate`; and `gradient` for fedsgd.

    weights() -> dict[str, ndarray]                    the initial weights
    train(weights) -> (weights, examples)              one round of local training
    evaluate(weights) -> dict[str, float | Measurement]
    gradient(weights) -> (gradient, examples)          of the mean loss over all local examples
    gradients(weights, places) -> dict[str, ndarray]   [len(places), ...]: of the loss of each of these examples,
    examples() -> int                                  of which there are so many: for dp_sgd, in the place of train

`train` may also return (weights, examples, metrics). In what measures, plain numbers are averaged over the
workers, each counting as many examples as it names under the key "examples" (one, if it names none);
a `Measurement` adds up exactly. A dictionary without "loss" has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fl_core.errors import ProgramError
from fl_core.metrics import Measurement, mean_of
from fl_core.strategies import LocalWork
from fl_core.weights import Array, Weights, difference
from fl_worker import streams
from fl_worker.backends import Evaluated, Moved, Trained, check_same, checked_initial
from fl_worker.task import Site

__all__ = ["NumpyBackend"]


METHODS = {"examples": ("gradients", "examples")}
"""What an object must have for a kind of work, where that is not a method of the same name."""


class NumpyBackend:
    """One worker's object; nothing of it shows that it moves."""

    moves: ClassVar[bool] = False

    @staticmethod
    def reseed(value: int) -> None:
        """Seed Python's and NumPy's streams."""
        streams.reseed(value)

    def __init__(self, task: Any, *, site: Site, work: LocalWork) -> None:  # noqa: ANN401 - any object
        if work.proximal:
            raise ProgramError("fedprox changes the loss, which a plain object keeps to itself; use fedavg")
        wanted = ("weights", "evaluate", *METHODS.get(work.kind, (work.kind,)))
        if missing := [name for name in wanted if not callable(getattr(task, name, None))]:
            raise ProgramError(
                f"the program's function must return an object with the methods {', '.join(wanted)}; "
                f"{type(task).__name__} has no {missing[0]}"
            )
        self._object = task
        self._site = site
        self._work = work
        self._initial = checked_initial(_check_initial(self._object.weights()))

    def weights(self) -> dict[str, Array]:
        """Copy the initial weights, which were asked for once."""
        return {name: array.copy() for name, array in self._initial.items()}

    def train(self, weights: Weights, *, round: int, moved: Moved) -> Trained:
        """Let the object train, or give its gradient."""
        self.reseed(streams.derived(self._site.seed, "round", self._site.index, round))
        answer = getattr(self._object, self._work.kind)(_copies(weights))
        moved()
        arrays, examples, metrics = self._parts(answer)
        source = f"{self._work.kind}(weights)"
        found = check_same(weights, arrays, source=source)
        if self._work.kind == "gradient":
            update = {name: -array for name, array in found.items()}
        else:
            update = difference(found, weights)
        return Trained(update, examples, _measurements(metrics, examples), source)

    @property
    def examples(self) -> int:
        """How many the object says that it has."""
        found = self._object.examples()
        if isinstance(found, bool) or not hasattr(found, "__index__"):
            raise ProgramError(f"examples() must give a whole number, not {found!r:.80}")
        return int(found)

    def gradients(self, weights: Weights, places: npt.NDArray[np.int64]) -> dict[str, Array]:
        """Let the object find the gradient of each of these examples."""
        found = self._object.gradients(_copies(weights), places.copy())
        if not isinstance(found, Mapping):
            raise ProgramError(
                f"gradients(weights, places) must give a dictionary, not {type(found).__name__}"
            )
        return dict(found)

    def evaluate(self, weights: Weights, *, moved: Moved) -> Evaluated:
        """Let the object measure."""
        self.reseed(streams.derived(self._site.seed, "evaluation", self._site.index))
        answer = self._object.evaluate(_copies(weights))
        moved()
        if not isinstance(answer, Mapping):
            raise ProgramError(f"evaluate(weights) must give a dictionary, not {type(answer).__name__}")
        values = dict(answer)
        examples = int(values.pop("examples", 1)) if values else 0
        return Evaluated(examples, _measurements(values, examples))

    def save(self, weights: Weights, path: Path) -> None:  # noqa: ARG002 - other backends write
        """Refuse: a plain object has no format of its own."""
        raise ProgramError("a plain object has no format of its own; export npz or safetensors")

    def holding(self, weights: Weights) -> Any:  # noqa: ANN401, ARG002 - the object keeps no weights
        """Give the user's object, whose methods take weights."""
        return self._object

    def _parts(self, answer: object) -> tuple[object, int, Mapping[str, Any]]:
        """Take apart what training returned."""
        if not isinstance(answer, tuple) or len(answer) not in {2, 3}:
            raise ProgramError(f"{self._work.kind}(weights) must give (arrays, examples), not {answer!r:.80}")
        metrics = answer[2] if len(answer) == 3 else {}  # noqa: PLR2004 - arrays, examples, metrics
        if isinstance(answer[1], bool) or not hasattr(answer[1], "__index__"):
            raise ProgramError(
                f"{self._work.kind}(weights) must give a whole number of examples, not {answer[1]!r}"
            )
        return answer[0], int(answer[1]), metrics


def _check_initial(weights: object) -> Weights:
    """Refuse initial weights that are no dictionary of arrays."""
    if not isinstance(weights, Mapping) or not all(isinstance(name, str) for name in weights):
        raise ProgramError(f"weights() must give a dictionary of numpy arrays, not {type(weights).__name__}")
    return check_same(weights, weights, source="weights()")


def _copies(weights: Weights) -> dict[str, Array]:
    return {name: array.copy() for name, array in weights.items()}


def _measurements(values: Mapping[str, Any], examples: int) -> dict[str, Measurement]:
    """Turn plain numbers into means; what is a Measurement stays exact.

    They may be no finite numbers: what comes of that is for whoever hands them in, or not.
    """
    result = {}
    for name, value in values.items():
        if isinstance(value, Measurement):
            result[name] = value
        elif isinstance(value, bool) or not hasattr(value, "__float__"):
            raise ProgramError(f"the metric {name!r} must be a number, not {value!r:.80}")
        else:
            result[name] = mean_of(float(value), examples)
    return result
