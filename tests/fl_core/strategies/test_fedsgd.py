"""FedSGD is one step of gradient descent on the data of the whole cohort."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from fl_core.strategies.fedsgd import FedSGD
from fl_core.updates import ExactSum
from fl_core.weights import Manifest, pack

RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(60, 4)), RNG.normal(size=60)


def gradient(model: np.ndarray, rows: slice) -> np.ndarray:
    """Of the mean squared error over these rows."""
    x, y = X[rows], Y[rows]
    return 2 * x.T @ (x @ model - y) / len(y)


def test_a_round_is_a_step_of_central_gradient_descent() -> None:
    """However unevenly the data are dealt out, the step is that on all of them."""
    strategy, model = FedSGD(learning_rate=0.1), np.zeros(4)
    total = ExactSum(Manifest.of({"w": model}), capacity=3)
    for rows in (slice(0, 5), slice(5, 22), slice(22, 60)):
        update = {"w": -gradient(model, rows)}
        weight = strategy.weight(rows.stop - rows.start)
        total.add([(0, memoryview(pack(update)))], weight=weight)
    stepped, state = strategy.step({"w": model}, total.mean(), {"kept": 1})
    assert np.allclose(stepped["w"], model - 0.1 * gradient(model, slice(0, 60)), rtol=0, atol=1e-11)
    assert state == {"kept": 1}


def test_workers_do_not_step() -> None:
    """Workers are asked for a gradient."""
    assert FedSGD(learning_rate=1).local.kind == "gradient"


@pytest.mark.parametrize("rate", [0, -1, float("nan"), None])
def test_what_a_learning_rate_cannot_be(rate: object) -> None:
    """The field's own type refuses what would not descend, where a job is read."""
    with pytest.raises(ValidationError, match="learning_rate"):
        TypeAdapter(FedSGD).validate_python({"learning_rate": rate})
