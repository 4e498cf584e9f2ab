"""Paddle (dygraph): any `paddle.nn.Layer`, any optimiser of `paddle.optimizer`, any schedule of its rate.

A schedule (`paddle.optimizer.lr`) steps once per batch, as `paddle.Model` does by default, and starts anew
with each round's fresh optimiser; what should change over the rounds follows from the argument `round`.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fl_core.errors import ProgramError
from fl_core.strategies import LocalWork
from fl_core.weights import DTYPES, Array, Weights, difference
from fl_worker import streams
from fl_worker.backends import (
    Evaluated,
    Moved,
    Tally,
    Trained,
    check_repeatable,
    checked_initial,
)
from fl_worker.task import Site, Task

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns about compilers, which nobody needs here
    import paddle

paddle.disable_signal_handler()  # or SIGTERM, the usual end, would look like a crash in the log

__all__ = ["PaddleBackend"]


class PaddleBackend:
    """One worker's Layer, driven round by round."""

    moves: ClassVar[bool] = True

    @staticmethod
    def reseed(value: int) -> None:
        """Seed Python, NumPy (which Paddle's samplers draw from) and Paddle."""
        streams.reseed(value)
        paddle.seed(value)

    def __init__(self, task: object, *, site: Site, work: LocalWork) -> None:
        self._task = _accepted(task, work)
        self._layer = self._task.model
        self._site = site
        self._work = work
        state = self._layer.state_dict()
        self._tensors = {name: tensor for name, tensor in state.items() if _travels(name, tensor)}
        self._buffers = {name for name, tensor in self._tensors.items() if tensor.stop_gradient}
        self._check_strategy()
        self._initial = checked_initial({name: tensor.numpy() for name, tensor in self._tensors.items()})
        self._kept: Any = None
        self._relabel: Callable[[Array], Array] | None = None
        if work.kind == "train":
            self._check_optimizer()

    def weights(self) -> dict[str, Array]:
        """Copy the initial weights: what the Layer's arrays of numbers with a fraction held before any training."""
        return {name: array.copy() for name, array in self._initial.items()}

    @property
    def sparse(self) -> str:
        """A layer of which a batch moves only the rows that it looks up; empty where there is none."""
        layers = self._layer.named_sublayers(include_self=True)
        return next((name or "the model" for name, layer in layers if getattr(layer, "_sparse", False)), "")

    def train(self, weights: Weights, *, round: int, moved: Moved) -> Trained:
        """Train the epochs of one round, or take one gradient over all local examples."""
        self.reseed(streams.derived(self._site.seed, "round", self._site.index, round))
        self._load(weights)
        self._mode(training=True)
        gradient = self._work.kind == "gradient"
        done = self._gradient(moved) if gradient else self._epochs(weights, self._optimizer(round), moved)
        if self._remembers and not self._is_finite():
            self._forget()
        return done

    def _epochs(self, weights: Weights, optimizer: Any, moved: Moved) -> Trained:  # noqa: ANN401 - Paddle's
        """Train the epochs of one round."""
        tally = Tally({})
        for _ in range(self._task.epochs):
            for inputs, labels in self._examples():
                loss = self._step(optimizer, inputs, labels)
                tally.count(loss, labels.shape[0])
                moved()
        return Trained(self._update(weights), tally.examples // self._task.epochs, tally.measurements())

    @contextmanager
    def mislabelled(self, flip: Callable[[Array, int], Array]) -> Iterator[None]:
        """Train with other labels meanwhile, of as many classes as the highest label that this worker has says."""
        classes = 1 + max((int(labels.numpy().max()) for _, labels in self._examples()), default=0)
        self._relabel = lambda labels: flip(labels, classes)
        try:
            yield
        finally:
            self._relabel = None

    def _examples(self) -> Iterator[tuple[list[Any], Any]]:
        """Walk through the data that is trained on."""
        for inputs, labels in _batches(self._task.train):
            relabel = self._relabel
            yield inputs, labels if relabel is None else paddle.to_tensor(relabel(labels.numpy()))

    def evaluate(self, weights: Weights, *, moved: Moved) -> Evaluated:
        """Measure loss and metrics on the test batches."""
        if self._task.test is None:
            return Evaluated()
        self.reseed(streams.derived(self._site.seed, "evaluation", self._site.index))
        self._load(weights)
        self._mode(training=False)
        tally = Tally(self._task.metrics)
        with paddle.no_grad():
            for inputs, labels in _batches(self._task.test):
                output = self._layer(*inputs)
                tally.count(float(self._loss(output, labels)), labels.shape[0])
                predictions = output[0] if isinstance(output, list | tuple) else output
                tally.measure(predictions.numpy(), labels.numpy())
                moved()
        return Evaluated(tally.examples, tally.measurements()) if tally.examples else Evaluated()

    def save(self, weights: Weights, path: Path) -> None:
        """Write the Layer's state with these weights, for `layer.set_state_dict(paddle.load(path))`."""
        paddle.save(self.holding(weights).model.state_dict(), str(path))

    def holding(self, weights: Weights) -> Task:
        """Give the task, its Layer in evaluation mode."""
        for name, tensor in self._tensors.items():
            tensor.set_value(weights[name])
        self._mode(training=False)
        return self._task

    # -- one step -------------------------------------------------------------------------------------

    def _step(self, optimizer: Any, inputs: list[Any], labels: Any) -> float:  # noqa: ANN401 - Paddle's
        """Step once; give the batch's mean loss as it was before the step."""
        losses: list[float] = []

        def objective() -> Any:  # noqa: ANN401 - a Tensor
            optimizer.clear_grad()
            loss = self._loss(self._layer(*inputs), labels)
            losses.append(float(loss))
            loss.backward()
            return loss + self._pull() if self._work.proximal else loss

        _drive(optimizer, objective)
        _advance(optimizer, losses[0])
        return losses[0]

    def _loss(self, output: Any, labels: Any) -> Any:  # noqa: ANN401 - Tensors
        """The mean loss of a batch; not a number where the model has diverged, whatever the function does with that."""
        try:
            loss = self._task.loss(output, labels) if self._task.loss else None
        except ValueError:  # as of Paddle's BCELoss
            first = output[0] if isinstance(output, list | tuple) else output
            if not isinstance(first, paddle.Tensor) or not paddle.isnan(first).any():
                raise
            loss = first * float("nan")
        if not isinstance(loss, paddle.Tensor):
            raise ProgramError(f"Task(loss=...) must return a Tensor, not {type(loss).__name__}")
        return loss if loss.ndim == 0 else loss.mean()

    @paddle.no_grad()  # type: ignore[untyped-decorator]  # Paddle has no types
    def _pull(self) -> Any:  # noqa: ANN401 - a Tensor
        """Add the proximal term's gradient, mu * (w - w_received); give the term's value."""
        term = paddle.zeros([])
        for name, tensor in self._trained():
            away = tensor - self._received[name]
            term += 0.5 * self._work.proximal * (away * away).sum().astype(term.dtype)
            if tensor.grad is not None:
                tensor.grad.add_(self._work.proximal * away)
        return term

    def _gradient(self, moved: Moved) -> Trained:
        """Minus the gradient of the mean loss over all local examples, gathered batch by batch."""
        self._layer.clear_gradients()
        tally = Tally({})
        for inputs, labels in self._examples():
            loss = self._loss(self._layer(*inputs), labels)
            (loss * labels.shape[0]).backward()
            tally.count(float(loss), labels.shape[0])
            moved()
        update = {name: np.zeros(tensor.shape, _dtype(tensor)) for name, tensor in self._tensors.items()}
        for name, tensor in self._trained():
            if tensor.grad is not None:
                update[name] = (tensor.grad.numpy() / -max(tally.examples, 1)).astype(_dtype(tensor))
        self._layer.clear_gradients()
        return Trained(update, tally.examples, tally.measurements())

    # -- weights in and out ---------------------------------------------------------------------------

    def _trained(self) -> Iterator[tuple[str, Any]]:
        return ((name, tensor) for name, tensor in self._tensors.items() if name not in self._buffers)

    def _load(self, weights: Weights) -> None:
        """Put the received weights into the Layer; local buffers stay."""
        for name, tensor in self._tensors.items():
            if name not in self._buffers or self._task.buffers != "local":
                tensor.set_value(weights[name])
        if self._work.proximal:
            self._received = {name: tensor.clone().detach() for name, tensor in self._trained()}

    def _update(self, weights: Weights) -> dict[str, Array]:
        """New minus received; nothing for buffers that do not travel."""
        update = difference({name: tensor.numpy() for name, tensor in self._tensors.items()}, weights)
        if self._task.buffers != "average":
            update |= {name: np.zeros_like(update[name]) for name in self._buffers}
        return update

    @property
    def _remembers(self) -> bool:
        """Whether a training leaves anything for the next one."""
        return self._task.keep_optimizer or self._task.buffers == "local"

    def _is_finite(self) -> bool:
        """Whether the Layer, its buffers and the optimiser that is kept hold nothing but finite numbers."""
        state = self._kept.state_dict().values() if self._kept else ()
        held = (value for value in state if isinstance(value, paddle.Tensor))
        return all(bool(paddle.isfinite(tensor).all()) for tensor in chain(self._tensors.values(), held))

    def _forget(self) -> None:
        """Keep nothing of a training that has diverged, which would spoil all that come after it."""
        self._kept = None
        for name in self._buffers:
            self._tensors[name].set_value(self._initial[name])

    def _mode(self, *, training: bool) -> None:
        """Switch the Layer; with `buffers="first"` those that hold buffers use them even in training."""
        self._layer.train() if training else self._layer.eval()
        if self._task.buffers == "first":
            owners = {name.rpartition(".")[0] for name in self._buffers}
            for name, layer in self._layer.named_sublayers(include_self=True):
                layer.training = layer.training and name not in owners

    # -- the optimiser --------------------------------------------------------------------------------

    def _optimizer(self, round: int) -> Any:  # noqa: ANN401 - Paddle's
        """Make this round's optimiser, or take the one that was kept."""
        if not self._task.keep_optimizer:
            return self._made(round)
        self._kept = self._kept or self._made(round)
        return self._kept

    def _made(self, round: int) -> Any:  # noqa: ANN401 - Paddle's
        if self._task.optimizer is None:
            raise ProgramError("Task(optimizer=None): give optimizer=lambda parameters, round: ...")
        made = self._task.optimizer([tensor for _, tensor in self._trained()], round)
        if not isinstance(made, paddle.optimizer.Optimizer):
            raise ProgramError(
                f"Task(optimizer=...) must return an optimiser of paddle.optimizer, not {type(made).__name__}"
            )
        return made

    def _check_optimizer(self) -> None:
        """Take one step towards a known goal, so that what cannot be driven shows now and not in a round."""
        optimizer, again = self._made(0), self._made(0)
        if not self._task.keep_optimizer and (optimizer is again or _shared_schedule(optimizer, again)):
            raise ProgramError(
                "Task(optimizer=...) returned the same optimiser or schedule twice; make them inside the "
                "function, so that each round starts afresh, or set keep_optimizer=True"
            )
        goal = {name: tensor.clone().detach() - 1 for name, tensor in self._trained()}

        def objective() -> Any:  # noqa: ANN401 - a Tensor
            optimizer.clear_grad()
            loss = paddle.add_n([((tensor - goal[name]) ** 2).sum() for name, tensor in self._trained()]) / 2
            loss.backward()
            return loss

        _drive(optimizer, objective)
        optimizer.clear_grad()
        moved = any(
            not np.array_equal(tensor.numpy(), self._initial[name]) for name, tensor in self._trained()
        )
        for name, tensor in self._trained():
            tensor.set_value(self._initial[name])
        if not moved and optimizer.get_lr() > 0:
            raise ProgramError(
                f"Task(optimizer=...): {type(optimizer).__name__} moves no parameter of the model; "
                "hand it the `parameters` that the function is given"
            )

    def _check_strategy(self) -> None:
        """Refuse what the job's strategy cannot do with this Layer."""
        if not any(True for _ in self._trained()):
            raise ProgramError("the model has no trainable parameter; set stop_gradient=False on some")
        if self._work != LocalWork() and self.sparse:
            raise ProgramError("a sparse Embedding works with fedavg only; build it with sparse=False")
        if self._work.kind == "gradient" and self._buffers and self._task.buffers == "average":
            raise ProgramError(
                f"fedsgd sends gradients, and {min(self._buffers)!r} has none; "
                'set Task(buffers="local") or Task(buffers="first")'
            )


def _accepted(task: object, work: LocalWork) -> Task:
    """Refuse what this backend cannot drive."""
    if not isinstance(task, Task):
        raise ProgramError(f"the program's function must return a fl_worker.Task, not {type(task).__name__}")
    if work.kind == "examples":
        raise ProgramError(
            "dp_sgd needs the gradient of each example, which Paddle does not give; "
            "use the framework numpy or sklearn, or the mechanism skellam"
        )
    if not isinstance(task.model, paddle.nn.Layer):
        raise ProgramError(f"Task(model=...) must be a paddle.nn.Layer, not {type(task.model).__name__}")
    if task.loss is None:
        raise ProgramError("Task(loss=None): give a function loss(output, labels)")
    if task.optimizer is None and work.kind == "train":
        raise ProgramError("Task(optimizer=None): give optimizer=lambda parameters, round: ...")
    if task.classes is not None:
        raise ProgramError("Task(classes=...) is for scikit-learn; a Layer's output says how many there are")
    check_repeatable(task.train, name="train")
    if task.test is not None:
        check_repeatable(task.test, name="test")
    return task


def _dtype(tensor: Any) -> str:  # noqa: ANN401 - a Tensor
    return str(tensor.dtype).rpartition(".")[2]


def _travels(name: str, tensor: Any) -> bool:  # noqa: ANN401 - a Tensor
    """Tell arrays of the model from whole-number buffers; refuses what is neither."""
    dtype = _dtype(tensor)
    if dtype in DTYPES:
        return True
    if tensor.stop_gradient and dtype.startswith(("int", "uint", "bool")):
        return False
    raise ProgramError(f"parameter {name!r} has dtype {dtype}; a model consists of {', '.join(DTYPES)}")


def _batches(loader: Any) -> Iterator[tuple[list[Any], Any]]:  # noqa: ANN401 - anything that yields batches
    """Walk through the data as (inputs, labels), as Tensors."""
    for batch in loader:
        if not isinstance(batch, list | tuple) or len(batch) < 2:  # noqa: PLR2004 - inputs and labels
            raise ProgramError(f"a batch must be (inputs, ..., labels), not {type(batch).__name__}")
        *inputs, labels = (
            part if isinstance(part, paddle.Tensor) else paddle.to_tensor(part) for part in batch
        )
        yield inputs, labels


def _drive(optimizer: Any, objective: Callable[[], Any]) -> None:  # noqa: ANN401 - Paddle's
    """Step once: LBFGS and its like call the objective themselves, as often as they want."""
    parameters = inspect.signature(optimizer.step).parameters.values()
    if any(parameter.default is parameter.empty for parameter in parameters):
        optimizer.step(objective)
    else:
        objective()
        optimizer.step()


def _schedule(optimizer: Any) -> Any:  # noqa: ANN401 - a schedule or None
    rate = getattr(optimizer, "_learning_rate", None)
    return rate if isinstance(rate, paddle.optimizer.lr.LRScheduler) else None


def _shared_schedule(one: Any, other: Any) -> bool:  # noqa: ANN401 - optimisers
    return _schedule(one) is not None and _schedule(one) is _schedule(other)


def _advance(optimizer: Any, loss: float) -> None:  # noqa: ANN401 - Paddle's
    """Step the schedule, if there is one; ReduceOnPlateau looks at the loss."""
    schedule = _schedule(optimizer)
    if isinstance(schedule, paddle.optimizer.lr.ReduceOnPlateau):
        schedule.step(paddle.to_tensor(loss))
    elif schedule is not None:
        schedule.step()
