"""A plain object with three methods is a program."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fl_core.errors import ProgramError
from fl_core.metrics import Accuracy, Measurement
from fl_core.strategies import LocalWork
from fl_worker.backends.numpy import NumpyBackend
from fl_worker.task import Site

SITE = Site(name="worker-0", index=0, count=2, seed=7)
TARGET = np.array([1.0, 2.0], np.float32)


class Pull:
    """Moves half of the way to a target."""

    def weights(self) -> dict[str, np.ndarray]:
        return {"w": np.zeros(2, np.float32)}

    def train(self, weights: Any) -> Any:
        return {"w": (weights["w"] + TARGET) / 2}, 10

    def gradient(self, weights: Any) -> Any:
        return {"w": weights["w"] - TARGET}, 10

    def evaluate(self, weights: Any) -> Any:
        return {"distance": float(np.abs(weights["w"] - TARGET).sum()), "examples": 4}


def backend(program: object, work: LocalWork | None = None) -> NumpyBackend:
    return NumpyBackend(program, site=SITE, work=work or LocalWork())


def quiet() -> None: ...


def changed(**methods: Any) -> object:
    return type("Changed", (Pull,), {name: staticmethod(method) for name, method in methods.items()})()


def test_training_gives_new_minus_received() -> None:
    """The update is what training added, in the model's dtype."""
    trained = backend(Pull()).train({"w": np.zeros(2, np.float32)}, round=1, moved=quiet)
    assert trained.update["w"].tolist() == [0.5, 1.0]
    assert trained.update["w"].dtype == np.float32
    assert trained.examples == 10


def test_a_gradient_comes_with_its_sign_turned() -> None:
    """For fedsgd the update is minus what `gradient` returns."""
    trained = backend(Pull(), LocalWork(kind="gradient")).train(Pull().weights(), round=1, moved=quiet)
    assert trained.update["w"].tolist() == [1.0, 2.0]


def test_numbers_are_averaged_by_the_examples_named() -> None:
    """A plain number counts for as many examples as the dictionary says; a Measurement stays exact."""
    exact = Measurement(Accuracy(), np.array([3.0, 4.0]))
    program = changed(evaluate=lambda _: {"loss": 0.5, "accuracy": exact, "examples": 4})
    measured = backend(program).evaluate(Pull().weights(), moved=quiet)
    assert measured.examples == 4
    assert measured.metrics["loss"].vector.tolist() == [2.0, 4.0]
    assert measured.metrics["accuracy"] is exact


def test_a_measurement_without_a_finite_value_ends_no_worker() -> None:
    """A model that others have spoilt may have no loss: it is for the sum, or the server, to take that or not."""
    program = changed(evaluate=lambda _: {"loss": float("inf"), "examples": 4})
    assert not np.isfinite(backend(program).evaluate(Pull().weights(), moved=quiet).metrics["loss"].vector[0])


def test_the_program_cannot_spoil_what_it_received() -> None:
    """Training in place changes a copy."""
    received = {"w": np.zeros(2, np.float32)}

    def in_place(weights: Any) -> Any:
        weights["w"] += 1
        return weights, 1

    trained = backend(changed(train=in_place)).train(received, round=1, moved=quiet)
    assert trained.update["w"].tolist() == [1, 1]
    assert received["w"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("program", "work", "told"),
    [
        (object(), LocalWork(), "has no weights"),
        (changed(train=None), LocalWork(kind="gradient"), ""),
        (Pull(), LocalWork(proximal=0.1), "use fedavg"),
        (changed(weights=dict), LocalWork(), "no weights"),
        (changed(weights=lambda: [1]), LocalWork(), "dictionary"),
        (changed(weights=lambda: {"w": [1.0]}), LocalWork(), "numpy arrays"),
        (changed(weights=lambda: {"w": np.zeros(2, np.int64)}), LocalWork(), "int64"),
        (changed(weights=lambda: {"w": np.array([1, np.nan])}), LocalWork(), "'w' holds 1 values"),
    ],
)
def test_what_is_missing_is_refused_at_load(program: object, work: LocalWork, told: str) -> None:
    """A method that is missing, weights that cannot travel and a strategy that cannot work end at load."""
    if not told:
        assert backend(program, work).weights()
        return
    with pytest.raises(ProgramError, match=told):
        backend(program, work)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (None, "must give \\(arrays, examples\\)"),
        (({"w": np.zeros(2)}, 1), "float64.* should be .*float32"),
        (({"w": np.zeros(3, np.float32)}, 1), "should be"),
        (({}, 1), "'w' is missing"),
        (({"w": np.zeros(2, np.float32), "v": np.zeros(2, np.float32)}, 1), "'v' is not in the model"),
        (({"w": np.zeros(2, np.float32)}, 1.5), "whole number"),
        (({"w": np.zeros(2, np.float32)}, 1, {"loss": "low"}), "'loss' must be a number"),
    ],
)
def test_a_wrong_answer_is_named(answer: Any, told: str) -> None:
    """What training returns must look like the model, and the message says where it does not."""
    with pytest.raises(ProgramError, match=told):
        backend(changed(train=lambda _: answer)).train(Pull().weights(), round=1, moved=quiet)
