"""FedAvg takes the mean of the workers' models, weighted by examples."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.strategies.fedavg import FedAvg
from fl_core.updates import ExactSum
from fl_core.weights import Manifest, difference, pack

numbers = st.lists(st.tuples(st.integers(-1000, 1000), st.integers(1, 500)), min_size=1, max_size=5)


@settings(deadline=None, max_examples=60)
@given(numbers, st.integers(-1000, 1000))
def test_the_new_model_is_the_weighted_mean_of_the_models(parts: list[tuple[int, int]], start: int) -> None:
    """Old model plus mean difference is what McMahan et al. write: the mean of the models by examples."""
    strategy, old = FedAvg(), {"w": np.full(3, start, "f8")}
    total = ExactSum(Manifest.of(old), capacity=len(parts))
    for value, examples in parts:
        update = difference({"w": np.full(3, value, "f8")}, old)
        total.add([(0, memoryview(pack(update)))], weight=strategy.weight(examples))
    model, _ = strategy.step(old, total.mean(), {})
    expected = np.average([value for value, _ in parts], weights=[examples for _, examples in parts])
    assert np.allclose(model["w"], expected, rtol=1e-12, atol=1e-9)


def test_a_step_is_pure() -> None:
    """Neither model nor mean nor state is changed, and the model keeps its dtype."""
    old, mean, state = {"w": np.ones(2, "f4")}, {"w": np.full(2, 0.5)}, {"kept": 1}
    model, after = FedAvg().step(old, mean, state)
    assert (old["w"].tolist(), mean["w"].tolist(), after) == ([1, 1], [0.5, 0.5], {"kept": 1})
    assert (model["w"].tolist(), model["w"].dtype) == ([1.5, 1.5], np.float32)


def test_workers_train_as_their_program_says() -> None:
    """FedAvg adds nothing to the local loss."""
    assert (FedAvg().local.kind, FedAvg().local.proximal) == ("train", 0)
