"""scikit-learn: linear models and multi-layer perceptrons, whose arrays a weighted mean makes sense of.

Estimators with `partial_fit` pass over the data `epochs` times in a round; those that start warm
(LogisticRegression, Lasso, ElasticNet) take up to `epochs` iterations from the model received.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression, SGDClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor

from fl_core.errors import ProgramError, UpdateError
from fl_core.strategies import LocalWork
from fl_core.weights import Array, Weights, difference
from fl_worker import logistic, streams
from fl_worker.backends import Evaluated, Moved, Tally, Trained, checked_initial, diverged
from fl_worker.task import Site, Task

__all__ = ["SklearnBackend"]

DRIVEN = (
    "SGDClassifier, SGDRegressor, Perceptron, PassiveAggressiveClassifier, PassiveAggressiveRegressor, "
    "LogisticRegression, Lasso, ElasticNet, MLPClassifier, MLPRegressor"
)
OVERFLOWS = ("under-/overflow", "non-finite")
"""What a ValueError of a fit says where numbers grew beyond all bounds."""
STANDSTILL = 1e-300
"""A learning rate so small that no weight changes: what makes an MLP with its random initial weights."""

Data = tuple[Array, Array]


class SklearnBackend:
    """One worker's estimator, driven round by round."""

    moves: ClassVar[bool] = False

    @staticmethod
    def reseed(value: int) -> None:
        """Seed Python's and NumPy's streams: scikit-learn has none of its own."""
        streams.reseed(value)

    def __init__(self, task: object, *, site: Site, work: LocalWork) -> None:
        self._task = _accepted(task, work)
        self._model = self._task.model
        self._site = site
        self._classes = _classes(self._task)
        self._data = self._arrays(self._task.train, name="train")
        self._test = None if self._task.test is None else self._arrays(self._task.test, name="test")
        self._fitter = _fitter(self._task, self._classes)
        self._fitter.start(*self._data)
        self._initial = checked_initial(self._fitter.arrays())

    def weights(self) -> dict[str, Array]:
        """Copy the initial weights."""
        return {name: array.copy() for name, array in self._initial.items()}

    def train(self, weights: Weights, *, round: int, moved: Moved) -> Trained:
        """Fit from the received weights; the loss is the trained model's on the training data."""
        self.reseed(streams.derived(self._site.seed, "round", self._site.index, round))
        self._fitter.put(weights)
        try:
            with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):  # a round need not
                self._fitter.fit(*self._data, moved)
        except ValueError as error:
            if any(words in str(error) for words in OVERFLOWS):
                return diverged(weights, self.examples)
            raise
        tally = Tally({})
        self._measure(tally, *self._data)
        update = difference(self._fitter.arrays(), weights)
        return Trained(update, tally.examples, tally.measurements())

    @contextmanager
    def mislabelled(self, flip: Callable[[Array, int], Array]) -> Iterator[None]:
        """Train with other labels meanwhile; a classifier's are counted by their place among its classes."""
        before = x, y = self._data
        if self._classes is None or self._classes.dtype.kind not in "iu":
            raise UpdateError(
                f"labels of {y.dtype} cannot be flipped; expected classes that are whole numbers"
            )
        self._data = x, self._classes[flip(np.searchsorted(self._classes, y), len(self._classes))]
        try:
            yield
        finally:
            self._data = before

    @property
    def examples(self) -> int:
        """How many there are to train on."""
        return len(self._data[1])

    def gradients(self, weights: Weights, places: Array) -> dict[str, Array]:
        """Of the log loss of each of these examples."""
        x, y = self._data
        labels = np.searchsorted(np.asarray(self._classes), y[places])
        joint = isinstance(self._model, LogisticRegression)
        return logistic.gradients(
            weights, x[places], labels, joint=joint, intercept=self._model.fit_intercept
        )

    def evaluate(self, weights: Weights, *, moved: Moved) -> Evaluated:
        """Measure loss and metrics on the test data."""
        if self._test is None or not len(self._test[1]):
            return Evaluated()
        self._fitter.put(weights)
        tally = Tally(self._task.metrics)
        self._measure(tally, *self._test)
        moved()
        return Evaluated(tally.examples, tally.measurements())

    def save(self, weights: Weights, path: Path) -> None:  # noqa: ARG002 - other backends write
        """Refuse: scikit-learn's own format is pickle, which executes what it reads."""
        raise ProgramError(
            "scikit-learn's own format is pickle, which is not written; export npz or safetensors"
        )

    def holding(self, weights: Weights) -> Task:
        """Give the task, its estimator fitted."""
        self._fitter.put(weights)
        return self._task

    def _arrays(self, data: Any, *, name: str) -> Data:  # noqa: ANN401 - what the program gave
        """Take (X, y) apart; labels must be among the classes."""
        if not isinstance(data, tuple | list) or len(data) != 2:  # noqa: PLR2004 - X and y
            raise ProgramError(
                f"Task({name}=...): give a pair (X, y) for scikit-learn, not {type(data).__name__}"
            )
        x, y = np.asarray(data[0], np.float64), np.asarray(data[1])
        if x.ndim != 2 or len(x) != len(y):  # noqa: PLR2004 - rows and columns
            raise ProgramError(
                f"Task({name}=...): X has the shape {x.shape} and y {y.shape}; rows must match"
            )
        if not len(x) and name == "train":
            raise ProgramError("Task(train=...): there is no example; give this worker data, or leave it out")
        if self._classes is not None and (strange := sorted(set(y.tolist()) - set(self._classes.tolist()))):
            raise ProgramError(f"Task({name}=...): the label {strange[0]!r} is not among Task(classes=...)")
        return x, y

    def _measure(self, tally: Tally, x: Array, y: Array) -> None:
        """Add the loss and the metrics of one set of data."""
        if self._classes is None:
            predictions = self._model.predict(x)
            tally.count(float(((predictions - y) ** 2).mean()), len(y))
            tally.measure(predictions, y)
            return
        scores, labels = _scores(self._model, x), np.searchsorted(self._classes, y)
        chosen = np.take_along_axis(scores, labels[:, None], axis=1)
        tally.count(float(-np.log(np.clip(chosen, 1e-12, None)).mean()), len(y))
        tally.measure(scores, labels)


class Fitter(Protocol):
    """How one family of estimators starts, takes and gives its arrays, and fits."""

    def start(self, x: Array, y: Array) -> None:
        """Give the estimator its initial arrays."""
        ...

    def arrays(self) -> dict[str, Array]:
        """Name the estimator's arrays."""
        ...

    def put(self, weights: Weights) -> None:
        """Replace the estimator's arrays."""
        ...

    def fit(self, x: Array, y: Array, moved: Moved) -> None:
        """Train for a round."""
        ...


class Passing(ABC):
    """Estimators with `partial_fit`: their optimiser is kept from round to round, or forgotten."""

    def __init__(self, task: Task, classes: Array | None) -> None:
        self._model = task.model
        self._epochs = task.epochs
        self._keep = task.keep_optimizer
        self._known = {} if classes is None else {"classes": classes}

    def fit(self, x: Array, y: Array, moved: Moved) -> None:
        """Pass over the data `epochs` times; an optimiser with which that failed is not kept."""
        if not self._keep:
            self._forget()
        try:
            for _ in range(self._epochs):
                self._model.partial_fit(x, y, **self._known)
                moved()
        except ValueError:
            self._forget()
            raise

    @abstractmethod
    def _forget(self) -> None:
        """Begin with the optimiser afresh."""


class Linear(Passing):
    """Linear models with `partial_fit`: they start from zero."""

    def start(self, x: Array, y: Array) -> None:
        """Let one example settle the shapes, and forget it."""
        self._model.partial_fit(x[:1], y[:1], **self._known)
        _check_attributes(self._model, ("coef_", "intercept_"))
        self.put({name: np.zeros_like(array) for name, array in self.arrays().items()})
        self._forget()

    def arrays(self) -> dict[str, Array]:
        """Copy slopes and intercepts."""
        return {name: np.array(getattr(self._model, name)) for name in ("coef_", "intercept_")}

    def put(self, weights: Weights) -> None:
        """Replace slopes and intercepts."""
        for name in ("coef_", "intercept_"):
            setattr(self._model, name, np.array(weights[name], order="C"))

    def _forget(self) -> None:
        """Start the schedule of the learning rate afresh."""
        if hasattr(self._model, "t_"):
            self._model.t_ = 1.0


class Warm:
    """Linear models that start warm from their `coef_`."""

    def __init__(self, task: Task, classes: Array | None) -> None:
        self._model = task.model.set_params(warm_start=True, max_iter=task.epochs)
        self._classes = classes

    def start(self, x: Array, y: Array) -> None:  # noqa: ARG002 - other families look at the labels
        """Start from zero, with the shapes that the classes ask for."""
        self._model.n_features_in_ = x.shape[1]
        self._shape: tuple[int, ...] = ()
        if self._classes is not None:
            self._model.classes_ = self._classes
            self._shape = (1 if len(self._classes) == 2 else len(self._classes),)  # noqa: PLR2004 - two: one row
        self.put({"coef_": np.zeros((*self._shape, x.shape[1])), "intercept_": np.zeros(self._shape)})

    def arrays(self) -> dict[str, Array]:
        """Copy slopes and intercepts."""
        intercept = np.broadcast_to(self._model.intercept_, self._shape)
        return {"coef_": np.array(self._model.coef_), "intercept_": np.array(intercept)}

    def put(self, weights: Weights) -> None:
        """Replace slopes and intercepts."""
        self._model.coef_ = np.array(weights["coef_"], order="C")
        self._model.intercept_ = np.array(weights["intercept_"])

    def fit(self, x: Array, y: Array, moved: Moved) -> None:
        """Take up to `max_iter` iterations; rows of weight zero stand for classes that this worker lacks."""
        if self._classes is None:
            self._model.fit(x, y)
        else:
            phantoms = np.zeros((len(self._classes), x.shape[1]))
            counts = np.concatenate([np.ones(len(y)), np.zeros(len(phantoms))])
            labels = np.concatenate([y, self._classes])
            self._model.fit(np.concatenate([x, phantoms]), labels, sample_weight=counts)
        moved()


class Network(Passing):
    """Multi-layer perceptrons, trained by their own `sgd` or `adam`."""

    def start(self, x: Array, y: Array) -> None:
        """Draw the initial weights, by a fit that stands still."""
        rate = self._model.learning_rate_init
        self._model.set_params(learning_rate_init=STANDSTILL).partial_fit(x[:1], y[:1], **self._known)
        self._model.set_params(learning_rate_init=rate)
        self._forget()

    def arrays(self) -> dict[str, Array]:
        """Copy each layer's weights and biases."""
        return {name: array.copy() for name, array in self._named().items()}

    def put(self, weights: Weights) -> None:
        """Overwrite each layer's arrays in place: a kept optimiser holds on to them."""
        for name, array in self._named().items():
            array[...] = weights[name]

    def _named(self) -> dict[str, Array]:
        return {
            f"{kind}.{number}": array
            for kind in ("coefs_", "intercepts_")
            for number, array in enumerate(getattr(self._model, kind))
        }

    def _forget(self) -> None:
        """Drop the optimiser: the next fit makes a fresh one."""
        if hasattr(self._model, "_optimizer"):
            del self._model._optimizer  # noqa: SLF001 - scikit-learn offers no other way


def _accepted(task: object, work: LocalWork) -> Task:
    """Refuse what this backend cannot drive."""
    if not isinstance(task, Task):
        raise ProgramError(f"the program's function must return a fl_worker.Task, not {type(task).__name__}")
    if work.kind == "examples":
        _check_logistic(task.model)
    elif work != LocalWork():
        raise ProgramError("scikit-learn's estimators keep their loss to themselves; use the strategy fedavg")
    if task.loss is not None or task.optimizer is not None:
        raise ProgramError(
            "a scikit-learn estimator has its own loss and optimiser; leave them out of the Task"
        )
    if task.buffers != "average":
        raise ProgramError("Task(buffers=...) is for Paddle; a scikit-learn estimator has none, leave it out")
    return task


def _check_logistic(model: object) -> None:
    """Refuse estimators whose loss is not the log loss of each example alone."""
    if isinstance(model, LogisticRegression):
        free, plain = np.isinf(model.C) or model.penalty is None, "C=np.inf"
    elif isinstance(model, SGDClassifier) and model.loss == "log_loss":
        free, plain = model.penalty is None, "penalty=None"
    else:
        raise ProgramError(
            f"dp_sgd needs the gradient of each example, which {type(model).__name__} does not give; "
            "use LogisticRegression or SGDClassifier(loss='log_loss')"
        )
    if not free or model.class_weight is not None:
        raise ProgramError(
            f"dp_sgd: {type(model).__name__} has a penalty or weights of classes, which are not of one example alone; "
            f"use {plain} and class_weight=None"
        )


def _classes(task: Task) -> Array | None:
    """Sort a classifier's classes; None for a regressor."""
    if not isinstance(task.model, BaseEstimator):
        raise ProgramError(_refused(task.model))
    if is_regressor(task.model) and task.classes is None:
        return None
    if not is_classifier(task.model):
        regressor = "; leave Task(classes=...) out" if is_regressor(task.model) else ""
        raise ProgramError(f"{_refused(task.model)}{regressor}")
    if task.classes is None or len(task.classes) < 2:  # noqa: PLR2004 - nothing to tell apart
        raise ProgramError(
            "Task(classes=None): a classifier needs all classes, classes=[0, 1, ...], "
            "so that a worker that lacks some has a model of the same shape"
        )
    if getattr(task.model, "class_weight", None) == "balanced":
        raise ProgramError(
            "class_weight='balanced' depends on each worker's labels; give a dictionary, or None"
        )
    return np.unique(np.asarray(task.classes))


def _fitter(task: Task, classes: Array | None) -> Fitter:
    """Choose the family; refuses estimators whose mean would not be a model."""
    model = task.model
    if isinstance(model, MLPClassifier | MLPRegressor):
        if model.solver == "lbfgs" or model.early_stopping:
            raise ProgramError(
                "an MLP is driven epoch by epoch: use solver='adam' or 'sgd', without early_stopping"
            )
        return Network(task, classes)
    if isinstance(model, LogisticRegression | ElasticNet | Lasso):
        if getattr(model, "solver", None) == "liblinear":
            raise ProgramError(
                "solver='liblinear' cannot start from the received model; use 'lbfgs' or 'saga'"
            )
        if task.keep_optimizer:
            raise ProgramError(f"{type(model).__name__} has no optimiser to keep; leave keep_optimizer out")
        return Warm(task, classes)
    if not hasattr(model, "partial_fit"):
        raise ProgramError(_refused(model))
    if model.get_params().get("average"):
        raise ProgramError(f"{type(model).__name__}(average=...) keeps a second model; use average=False")
    return Linear(task, classes)


def _refused(model: object) -> str:
    return (
        f"{type(model).__name__} cannot be trained round by round as a weighted mean of models; "
        f"this backend drives {DRIVEN}, and linear models with partial_fit, coef_ and intercept_"
    )


def _check_attributes(model: object, names: tuple[str, ...]) -> None:
    if not all(isinstance(getattr(model, name, None), np.ndarray) for name in names):
        raise ProgramError(_refused(model))


def _scores(model: Any, x: Array) -> Array:  # noqa: ANN401 - an estimator
    """Give scores in [0, 1] of shape [n, classes]: probabilities, or distances squashed by a sigmoid."""
    probabilities: Callable[[Array], Array] | None = getattr(model, "predict_proba", None)
    if probabilities is not None:
        return np.asarray(probabilities(x))
    squashed = 0.5 * (1 + np.tanh(0.5 * np.asarray(model.decision_function(x))))
    return squashed if squashed.ndim > 1 else np.stack([1 - squashed, squashed], axis=1)
