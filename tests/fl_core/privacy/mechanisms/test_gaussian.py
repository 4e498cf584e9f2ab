"""Workers hand in short whole numbers; what leaves the server has noise in proportion to their length."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fl_core.privacy.costs import GaussianCost
from fl_core.privacy.mechanisms import Mechanism, Release
from fl_core.privacy.mechanisms.gaussian import Gaussian
from fl_core.privacy.rounding import squared_norm
from fl_core.privacy.stream import Random

MECHANISM = Gaussian(clip=2.0, noise_multiplier=0.5)
RELEASE = Release(dimension=20_000, units=2000)
UPDATE = {"w": np.linspace(-1, 1, 19_999).reshape(1, -1).astype("f4"), "b": np.array(0.5)}


def summed(parts: list[Any]) -> dict[str, Any]:
    return {name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]}


def test_a_worker_hands_in_whole_numbers_that_are_short_enough(chance: Callable[[int], Random]) -> None:
    """The update is clipped and rounded, shapes stay, and nobody's is longer than the sensitivity."""
    handed_in = MECHANISM.on_worker(UPDATE, RELEASE, chance(1))
    assert {name: (array.dtype, array.shape) for name, array in handed_in.items()} == {
        "w": (np.dtype("i8"), (1, 19_999)),
        "b": (np.dtype("i8"), ()),
    }
    assert 0.9 * 2000**2 < squared_norm(handed_in) <= RELEASE.sensitivity.l2_squared


def test_the_sum_comes_out_with_the_noise_and_no_more(chance: Callable[[int], Random]) -> None:
    """Sum of clipped updates, in the model's units, plus noise of noise multiplier times sensitivity."""
    parts = [MECHANISM.on_worker(UPDATE, RELEASE, chance(seed)) for seed in range(4)]
    released = MECHANISM.on_server(summed(parts), RELEASE, chance(9))
    length = math.sqrt(sum(float((array.astype("f8") ** 2).sum()) for array in UPDATE.values()))
    error = released["w"] - 4 * UPDATE["w"] * 2.0 / length
    wanted = 0.5 * RELEASE.sensitivity.l2 * 2.0 / 2000
    assert error.std() == pytest.approx(wanted, rel=0.03)
    assert abs(error.mean()) < 5 * wanted / math.sqrt(20_000)


def test_the_cost_does_not_depend_on_the_rounding() -> None:
    """Coarse units make the noise larger, not the cost."""
    for units in (3, 3000):
        release = Release(dimension=10_000, units=units)
        assert MECHANISM.cost(release) == GaussianCost(noise_multiplier=0.5)
        assert release.variance(0.5) >= 0.25 * release.sensitivity.l2_squared


def test_it_is_a_mechanism() -> None:
    """The class has what the protocol asks for, and its options are its fields."""
    mechanism: Mechanism = MECHANISM
    assert (mechanism.unit, "trusted" in mechanism.adversary) == ("worker", True)


def test_the_server_adds_the_noise_to_the_votes(chance: Callable[[int], Random]) -> None:
    """A worker hands its vote in as it is; the released count spreads as the charge says."""
    assert MECHANISM.vote_on_worker(-1, RELEASE, variance=36, random=chance(1)) == -1
    counts = [MECHANISM.vote_on_server(5, variance=36, random=chance(trial)) for trial in range(600)]
    assert np.mean(counts) == pytest.approx(5, abs=5 * 6 / 600**0.5)
    low, high = stats.chi2.ppf([1e-5, 1 - 1e-5], 599) / 599
    assert 36 * low < np.var(counts, ddof=1) < 36 * high
    assert MECHANISM.vote_cost(36) == GaussianCost(noise_multiplier=6.0)
