"""A metric is a vector that sums and a function of the sum.

Each worker measures a vector on its own data; the server adds the vectors and takes the function of
the sum. So a global metric is exact, not a mean of means, and a secure sum is all it needs.

A model that has diverged gives scores that are not numbers (NaN): the vector of a batch with one of them is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fl_core.errors import MismatchError, ProgramError, UpdateError

Vector = npt.NDArray[np.float64]


class Metric(Protocol):
    """One kind of metric; its fields are its options, and all of them are plain JSON values."""

    @property
    def length(self) -> int:
        """Number of elements of the vector."""
        ...

    def measure(self, predictions: npt.NDArray[Any], labels: npt.NDArray[Any]) -> Vector:
        """The vector of one batch: predictions of shape [n, ...], labels of shape [n]."""
        ...

    def value(self, total: Vector) -> float:
        """The metric's value, from the sum of all vectors."""
        ...


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Share of right answers; predictions are scores [n, classes] or class numbers [n]."""

    @property
    def length(self) -> int:
        """Right answers, and all of them."""
        return 2

    def measure(self, predictions: npt.NDArray[Any], labels: npt.NDArray[Any]) -> Vector:
        """Count the right answers of one batch."""
        if not _chooses(predictions):
            return _nothing(self)
        return np.array([np.sum(_chosen(predictions) == labels.reshape(-1)), labels.size], np.float64)

    def value(self, total: Vector) -> float:
        """Right answers over all answers."""
        return _ratio(total[0], total[1])


@dataclass(frozen=True, slots=True)
class Mean:
    """Mean of a quantity per example, such as a loss; `predictions` are the values themselves."""

    @property
    def length(self) -> int:
        """The sum, and the number of examples."""
        return 2

    def measure(self, predictions: npt.NDArray[Any], labels: npt.NDArray[Any]) -> Vector:  # noqa: ARG002
        """Add up one batch."""
        return np.array([predictions.sum(dtype=np.float64), predictions.shape[0]], np.float64)

    def value(self, total: Vector) -> float:
        """Sum over number."""
        return _ratio(total[0], total[1])


@dataclass(frozen=True, slots=True)
class AUC:
    """Area under the ROC curve from two histograms of scores in [0, 1] (two-class labels 0 and 1).

    Pairs whose scores share a bin count one half, so the error is at most half the share of such pairs.
    """

    bins: int = 1024

    @property
    def length(self) -> int:
        """A histogram for each class."""
        return 2 * self.bins

    def measure(self, predictions: npt.NDArray[Any], labels: npt.NDArray[Any]) -> Vector:
        """Histograms of one batch; scores [n] or [n, 2], of which the last column counts."""
        scores = predictions.reshape(labels.size, -1)[:, -1] if labels.size else np.zeros(0)
        known = np.isfinite(scores)
        if (known & ((scores < 0) | (scores > 1))).any():
            raise ProgramError(
                "AUC needs scores between 0 and 1: let the model end in a sigmoid or a softmax"
            )
        if not known.all():
            return _nothing(self)
        places = np.clip((scores * self.bins).astype(np.int64), 0, self.bins - 1)
        positive = labels.reshape(-1) > 0
        return np.concatenate(
            [np.bincount(places[side], minlength=self.bins) for side in (~positive, positive)]
        ).astype(np.float64)

    def value(self, total: Vector) -> float:
        """Share of (negative, positive) pairs in the right order."""
        negative, positive = total[: self.bins], total[self.bins :]
        below = np.concatenate([[0.0], np.cumsum(negative)[:-1]])
        return _ratio(float(positive @ (below + negative / 2)), float(positive.sum() * negative.sum()))


@dataclass(frozen=True, slots=True)
class RecallAtK:
    """Share of examples whose label is among the k highest scores; predictions are scores [n, classes]."""

    k: int = 20

    @property
    def length(self) -> int:
        """Hits, and all examples."""
        return 2

    def measure(self, predictions: npt.NDArray[Any], labels: npt.NDArray[Any]) -> Vector:
        """Count the hits of one batch."""
        if not _chooses(predictions):
            return _nothing(self)
        truth = labels.reshape(-1, 1)
        own = np.take_along_axis(predictions, truth.astype(np.int64), axis=1)
        hits = (predictions > own).sum(axis=1) < self.k
        return np.array([hits.sum(), truth.size], np.float64)

    def value(self, total: Vector) -> float:
        """Hits over all examples."""
        return _ratio(total[0], total[1])


@dataclass(frozen=True, slots=True)
class MacroF1:
    """Mean F1 score over the classes, from a confusion matrix; predictions as for `Accuracy`."""

    classes: int

    @property
    def length(self) -> int:
        """The confusion matrix, row by row: truth down, answers across."""
        return self.classes * self.classes

    def measure(self, predictions: npt.NDArray[Any], labels: npt.NDArray[Any]) -> Vector:
        """The confusion matrix of one batch."""
        if not _chooses(predictions):
            return _nothing(self)
        truth, answers = labels.reshape(-1).astype(np.int64), _chosen(predictions)
        for side, found in (("label", truth), ("prediction", answers)):
            if found.size and not 0 <= found.min() <= found.max() < self.classes:
                raise ProgramError(
                    f"MacroF1(classes={self.classes}): a {side} is outside of 0 to {self.classes - 1}"
                )
        places = truth * self.classes + answers
        return np.bincount(places, minlength=self.length).astype(np.float64)

    def value(self, total: Vector) -> float:
        """Mean over the classes that occur of 2 TP / (2 TP + FP + FN)."""
        matrix = total.reshape(self.classes, self.classes)
        support = matrix.sum(axis=0) + matrix.sum(axis=1)
        seen = support > 0
        return _ratio(float((2 * np.diag(matrix)[seen] / support[seen]).sum()), float(seen.sum()))


KINDS: Mapping[str, type[Any]] = {
    "accuracy": Accuracy,
    "mean": Mean,
    "auc": AUC,
    "recall_at_k": RecallAtK,
    "macro_f1": MacroF1,
}
"""What travels by name; the server takes functions of sums only from here, never from a worker."""

_NAMES = {kind: name for name, kind in KINDS.items()}


@dataclass(frozen=True, slots=True)
class Measurement:
    """A metric's vector over some data: what one worker hands in, or the sum over many."""

    metric: Metric
    vector: Vector

    def __add__(self, other: Measurement) -> Measurement:
        if self.metric != other.metric:
            raise MismatchError(
                f"{other.metric} cannot be added to {self.metric}; all workers need one program"
            )
        return Measurement(self.metric, self.vector + other.vector)

    @property
    def value(self) -> float:
        """The metric's value."""
        return self.metric.value(self.vector)

    @classmethod
    def zero(cls, row: Mapping[str, Any]) -> Measurement:
        """Nothing measured yet, of the kind and options that `to_json` wrote; its vector is empty."""
        return cls(_metric(row), np.zeros(0))

    def to_json(self) -> dict[str, Any]:
        """A plain description: kind, options, vector."""
        options = asdict(self.metric)  # type: ignore[call-overload]  # every Metric is a dataclass
        return {"kind": _NAMES[type(self.metric)], "options": options, "vector": self.vector.tolist()}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Measurement:
        """Read what `to_json` wrote; refuses unknown kinds, wrong lengths and values that are not finite."""
        metric = _metric(row)
        try:
            vector = np.asarray(row["vector"], np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise MismatchError(f"a measurement is kind, options and vector: {error}") from error
        if vector.shape != (metric.length,) or not np.isfinite(vector).all():
            raise MismatchError(
                f"{metric} needs a vector of {metric.length} finite numbers, not {vector.shape}"
            )
        return cls(metric, vector)


Measurements = Mapping[str, Measurement]


def total(parts: Mapping[str, Measurements]) -> dict[str, Measurement]:
    """Add up what each worker measured, in the order of their names: the same sum to the bit."""
    result: dict[str, Measurement] = {}
    for worker in sorted(parts):
        for name, measurement in parts[worker].items():
            result[name] = result[name] + measurement if name in result else measurement
    return result


def check_measured(measured: Measurements, *, whose: str) -> None:
    """Refuse measurements that no sum can take: with numbers that are not finite."""
    for name, one in measured.items():
        if not np.isfinite(one.vector).all():
            raise UpdateError(
                f"{whose}'s training: the metric {name!r} is not a finite number; "
                "lower the learning rate or check the data"
            )


def summable(measured: Measurements, *, below: float = math.inf) -> dict[str, Measurement]:
    """The measurements, where one that holds a number that is not finite, or not `below` this, is of no example: zeros.

    So no sum is spoilt by it, and a metric that nobody has measured otherwise has no value.
    """
    return {
        name: one
        if (np.abs(one.vector) < below).all()
        else Measurement(one.metric, np.zeros(one.metric.length))
        for name, one in measured.items()
    }


def mean_of(value: float, examples: int) -> Measurement:
    """A plain number that holds for so many examples, as a metric that averages over all workers."""
    return Measurement(Mean(), np.array([value * examples, examples], np.float64))


def _nothing(metric: Metric) -> Vector:
    """The vector of a batch whose scores are not numbers."""
    return np.full(metric.length, np.nan)


def _chooses(predictions: npt.NDArray[Any]) -> bool:
    """Whether each example's scores, or its class number, can tell a class; a score may be infinite."""
    if predictions.ndim > 1 and predictions.shape[-1] > 1:
        return not np.isnan(predictions).any()
    return bool(np.isfinite(predictions).all())


def _chosen(predictions: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Class numbers, from themselves or from scores [n, classes], of which the highest decides."""
    if predictions.ndim > 1 and predictions.shape[-1] > 1:
        return np.asarray(predictions.argmax(axis=-1), np.int64).reshape(-1)
    numbers = predictions.reshape(-1)
    if not np.array_equal(numbers, np.rint(numbers)):
        raise ProgramError(
            "one score per example does not say which class is meant: give scores [n, classes], or class numbers"
        )
    return numbers.astype(np.int64)


def _metric(row: Mapping[str, Any]) -> Metric:
    try:
        kind, options = KINDS[row["kind"]], dict(row["options"])
        metric: Metric = kind(**options)
    except (KeyError, TypeError, ValueError) as error:
        raise MismatchError(
            f"a measurement is kind, options and vector, one of {sorted(KINDS)}: {error}"
        ) from error
    if wrong := [name for name, value in options.items() if type(value) is not int or value < 1]:
        raise MismatchError(f"a measurement's option {wrong[0]!r} must be a whole number from 1")
    return metric


def _ratio(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else float("nan")
