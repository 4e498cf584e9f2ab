"""The bounds that are ours hold: against divergences that are summed up number by number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import TypeAdapter, ValidationError
from scipy import stats
from scipy.special import ive, logsumexp

from fl_core.privacy.costs import Cost, GaussianCost, Neighbours, SampledGaussianCost, SkellamCost

ADD, REPLACE = Neighbours.ADD_OR_REMOVE, Neighbours.REPLACE
COST: TypeAdapter[Any] = TypeAdapter(Cost)


def divergence(log_law: Any, shift: int, order: float) -> float:
    """D_order of a law on whole numbers, moved by `shift`, from the same law unmoved."""
    moved, still = log_law[: len(log_law) - shift], log_law[shift:]
    return float(logsumexp(order * moved + (1 - order) * still) / (order - 1))


def skellam_law(variance: float, reach: int) -> Any:
    """Logarithms of the probabilities of -reach to reach: scipy's for 0, then I_(k+1) / I_k as continued fractions."""
    ratios = np.zeros(reach + 60)
    for k in range(reach + 58, 0, -1):
        ratios[k - 1] = 1 / (2 * k / variance + ratios[k])
    half = np.log(ive(0, variance)) + np.concatenate([[0.0], np.cumsum(np.log(ratios[:reach]))])
    return np.concatenate([half[:0:-1], half])


def test_the_law_is_scipys() -> None:
    """What the bounds are compared with are the probabilities that scipy has, where it has any."""
    assert np.allclose(np.exp(skellam_law(20.0, 60)), stats.skellam.pmf(np.arange(-60, 61), 10, 10))


@pytest.mark.parametrize("variance", [20.0, 60.0, 500.0, 5000.0])
@pytest.mark.parametrize("shift", [1, 2, 7])
def test_the_skellam_bound_holds(variance: float, shift: int) -> None:
    """For orders 2 to 512 the bound is above the exact divergence, by less than 2 % where the noise is fine."""
    law = skellam_law(variance, reach=int(20 * math.sqrt(variance)) + 3000 * shift)
    cost = SkellamCost(variance=variance, l1=shift, l2_squared=shift**2)
    for order in (2, 3, 5, 8, 16, 64, 512):
        exact = divergence(law, shift, order)
        bound = cost.divergence(order, ADD)
        assert exact <= bound
        assert bound < exact * 1.02 or variance < 100 * shift**2 or order > 8


def test_the_skellam_bound_holds_for_vectors() -> None:
    """The exact divergence of a vector, the sum over its values, is below the bound from its L1 and L2 norm."""
    variance, vector = 80.0, [5, -1, 0, 2, 2]
    law = skellam_law(variance, reach=250)
    cost = SkellamCost(variance=variance, l1=10, l2_squared=34)
    for order in (2, 4, 12):
        exact = sum(divergence(law, abs(one), order) for one in vector if one)
        assert exact <= cost.divergence(order, ADD) < exact * 1.1


@pytest.mark.parametrize("order", [1.1, 1.5, 2.5, 7.3, 15.9])
def test_between_whole_orders_the_chord_is_a_bound(order: float) -> None:
    """At orders that are no whole numbers too the cost is above the exact divergence, and not far from 2 on."""
    law = skellam_law(30.0, reach=140)
    exact = divergence(law, 3, order)
    bound = SkellamCost(variance=30.0, l1=3, l2_squared=9).divergence(order, ADD)
    assert exact <= bound
    assert order < 2 or bound < exact * 1.4


def test_a_gap_would_show() -> None:
    """Skellam noise is not Gaussian: near order 1 its exact divergence is above what the normal law has."""
    exact = divergence(skellam_law(2.0, reach=60), 1, 1.1)
    assert exact > 1.01 * GaussianCost(noise_multiplier=math.sqrt(2)).divergence(1.1, ADD)


@pytest.mark.parametrize("variance", [1, 6, 400])
def test_the_discrete_gaussian_costs_no_more_than_the_normal_law(variance: int) -> None:
    """The exact divergence of the law on whole numbers is at most a / 2 z^2."""
    reach = int(25 * math.sqrt(variance)) + 40
    weights = -(np.arange(-reach, reach + 1) ** 2) / (2 * variance)
    law = weights - logsumexp(weights)
    for shift in (1, 3):
        for order in (1.5, 2, 4.7, 10):
            cost = GaussianCost(noise_multiplier=math.sqrt(variance) / shift)
            assert divergence(law, shift, order) <= cost.divergence(order, ADD) * (1 + 1e-9)


@given(some.floats(1, 1e9), some.integers(1, 1000), some.floats(1.01, 200), some.floats(1, 10))
def test_more_noise_costs_less(variance: float, length: int, order: float, times: float) -> None:
    """Survivors beyond those that suffice only help."""
    few = SkellamCost(variance=variance, l1=length, l2_squared=length)
    many = SkellamCost(variance=variance * times, l1=length, l2_squared=length)
    assert many.divergence(order, ADD) <= few.divergence(order, ADD) * (1 + 1e-12)


@given(some.floats(1.1, 100))
def test_to_replace_one_doubles_the_sensitivity(order: float) -> None:
    """Replacing costs what adding costs at twice the length."""
    once = SkellamCost(variance=1000.0, l1=20, l2_squared=100)
    twice = SkellamCost(variance=1000.0, l1=40, l2_squared=400)
    assert once.divergence(order, REPLACE) == pytest.approx(twice.divergence(order, ADD))
    gaussian = GaussianCost(noise_multiplier=2.0)
    assert gaussian.divergence(order, REPLACE) == GaussianCost(noise_multiplier=1.0).divergence(order, ADD)


@given(
    some.one_of(
        some.builds(GaussianCost, noise_multiplier=some.floats(1e-3, 1e3)),
        some.builds(
            SkellamCost, variance=some.floats(1, 1e9), l1=some.integers(1), l2_squared=some.integers(1)
        ),
        some.builds(
            SampledGaussianCost,
            noise_multiplier=some.floats(0.1, 10),
            rate=some.floats(1e-6, 1),
            steps=some.integers(1, 10**6),
        ),
    )
)
def test_a_cost_survives_being_written(cost: Any) -> None:
    """What the ledger keeps of a cost is the cost, to the last bit."""
    assert COST.validate_json(cost.model_dump_json()) == cost


@pytest.mark.parametrize(
    "row",
    [
        {"kind": "gaussian", "noise_multiplier": 0.0},
        {"kind": "gaussian", "noise_multiplier": float("inf")},
        {"kind": "gaussian", "noise_multiplier": "1"},
        {"kind": "gaussian"},
        {"kind": "skellam", "variance": 4.0, "l1": 1.5, "l2_squared": 1},
        {"kind": "sampled_gaussian", "noise_multiplier": 1.0, "rate": 1.1, "steps": 1},
        {"kind": "free"},
    ],
)
def test_what_is_no_cost_is_refused(row: dict[str, Any]) -> None:
    """No noise, infinite noise, texts, missing and unknown fields cost nothing only by mistake."""
    with pytest.raises(ValidationError):
        COST.validate_python(row)
