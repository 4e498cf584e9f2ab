"""What a program is given (`Site`) and what it returns (`Task`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from fl_core.errors import ProgramError
from fl_core.metrics import KINDS, Metric

if TYPE_CHECKING:
    import numpy as np

Buffers = Literal["average", "local", "first"]


@dataclass(frozen=True, slots=True)
class Site:
    """The worker that a program runs in.

    `index` counts from 0 to `count - 1`; `data` is the path to the worker's own data, if it was given one;
    `seed` is the job's, the same for all.
    """

    name: str
    index: int
    count: int
    data: Path | None = None
    seed: int = 0

    def rng(self, *words: object) -> np.random.Generator:
        """Make a stream of this worker's own; the same words give the same stream."""
        import numpy as np  # noqa: PLC0415 - `Site` itself needs no arrays

        from fl_worker.streams import derived  # noqa: PLC0415

        return np.random.default_rng(derived(self.seed, "site", self.index, *words))


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What to train: plain training code in pieces.

    For Paddle: a `Layer`, a loss `loss(output, labels)`, a function `optimizer(parameters, round)` that makes
    a fresh optimiser, and data loaders that yield `(inputs, ..., labels)`. For scikit-learn: an estimator,
    `train` and `test` as pairs `(X, y)`, and for a classifier all `classes`, also those this worker lacks.

    `epochs` is the number of passes over the local data in a round. `keep_optimizer` keeps the optimiser's
    memory (momentum, counters) from round to round instead of starting afresh. `buffers` says what becomes
    of arrays that no gradient trains, such as batch-norm statistics: `average` them like the rest, keep them
    `local` to each worker, or leave them as in the `first` model, frozen.
    """

    model: Any
    train: Any
    loss: Callable[..., Any] | None = None
    optimizer: Callable[[Any, int], Any] | None = None
    test: Any = None
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    epochs: int = 1
    keep_optimizer: bool = False
    buffers: Buffers = "average"
    classes: Sequence[Any] | None = None

    def __post_init__(self) -> None:
        """Refuse what no backend could use."""
        if type(self.epochs) is not int or self.epochs < 1:
            raise ProgramError(f"Task(epochs={self.epochs!r}): give a whole number of passes, at least 1")
        if self.buffers not in get_args(Buffers):
            raise ProgramError(
                f"Task(buffers={self.buffers!r}): choose one of {', '.join(get_args(Buffers))}"
            )
        if self.train is None:
            raise ProgramError("Task(train=None): give the data that this worker trains on")
        self._check_functions()
        self._check_metrics()

    def _check_functions(self) -> None:
        """Refuse an optimiser where a function that makes one is needed, and the like."""
        if self.loss is not None and not callable(self.loss):
            raise ProgramError(f"Task(loss=...): give a function loss(output, labels), not {_a(self.loss)}")
        if self.optimizer is not None and not callable(self.optimizer):
            raise ProgramError(
                f"Task(optimizer=...): give a function that makes a fresh optimiser for each round, "
                f"optimizer=lambda parameters, round: ..., not {_a(self.optimizer)}"
            )

    def _check_metrics(self) -> None:
        """Refuse what the server could not add up."""
        if not isinstance(self.metrics, Mapping):
            raise ProgramError(f"Task(metrics=...): give a dictionary, not {_a(self.metrics)}")
        for name, metric in self.metrics.items():
            if name == "loss":
                raise ProgramError(
                    'Task(metrics={"loss": ...}): the loss is always measured; choose another name'
                )
            if type(metric) not in KINDS.values():
                names = ", ".join(f"metrics.{kind.__name__}()" for kind in KINDS.values())
                raise ProgramError(f"Task(metrics={{{name!r}: ...}}): give one of {names}, not {_a(metric)}")


def _a(value: object) -> str:
    """Name a value by its type, as a sentence needs it."""
    return "None" if value is None else f"an object of type {type(value).__name__}"
