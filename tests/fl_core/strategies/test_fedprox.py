"""FedProx is FedAvg with a proximal term in the workers' loss."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from fl_core.strategies.fedavg import FedAvg
from fl_core.strategies.fedprox import FedProx


def test_only_the_workers_loss_differs_from_fedavg() -> None:
    """The server's step and the weights are those of FedAvg; mu goes to the workers."""
    model, mean = {"w": np.arange(3, dtype="f4")}, {"w": np.array([0.1, -0.2, 0.3])}
    prox, avg = (strategy.step(model, mean, {})[0]["w"] for strategy in (FedProx(mu=0.1), FedAvg()))
    assert prox.tobytes() == avg.tobytes()
    assert FedProx(mu=0.1).weight(17) == FedAvg().weight(17) == 17
    assert (FedProx(mu=0.1).local.kind, FedProx(mu=0.1).local.proximal) == ("train", 0.1)


def test_without_mu_it_is_fedavg() -> None:
    """With mu = 0 the workers are asked for exactly what FedAvg asks."""
    assert FedProx(mu=0).local == FedAvg().local


@pytest.mark.parametrize("mu", [-0.1, float("nan"), "much"])
def test_what_mu_cannot_be(mu: object) -> None:
    """The field's own type refuses negative and meaningless values where a job is read."""
    with pytest.raises(ValidationError, match="mu"):
        TypeAdapter(FedProx).validate_python({"mu": mu})
