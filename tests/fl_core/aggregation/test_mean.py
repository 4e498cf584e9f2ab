"""The mean is the exact sum over the total weight."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from fl_core.aggregation.mean import Mean
from fl_core.errors import UpdateError
from fl_core.updates import ExactSum
from fl_core.weights import Manifest, pack

VALUES = ((0.1, 3), (1e6, 7), (-1e-7, 11))


def total_of(parts: tuple[tuple[float, int], ...]) -> ExactSum:
    total = ExactSum(Manifest.of({"w": np.zeros(2, "f4")}), capacity=3)
    for value, weight in parts:
        total.add([(0, memoryview(pack({"w": np.full(2, value, "f4")})))], weight=weight)
    return total


def test_every_order_gives_the_same_model() -> None:
    """Over all orders of arrival there is one result, to the bit, and it is the weighted mean."""
    results = {Mean().combine(total_of(order))["w"].tobytes() for order in permutations(VALUES)}
    (only,) = results
    expected = np.average([float(np.float32(value)) for value, _ in VALUES], weights=[w for _, w in VALUES])
    assert np.frombuffer(only) == pytest.approx([expected] * 2, rel=1e-12)


def test_no_update_has_no_mean() -> None:
    """Nothing is not zero."""
    with pytest.raises(UpdateError, match="at least one"):
        Mean().combine(total_of(()))
