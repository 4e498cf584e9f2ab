"""Epsilon agrees with dp-accounting, with integrals of the definitions, and with another way to reckon."""

from __future__ import annotations

import math
from typing import Any

import dp_accounting
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from pydantic import ValidationError
from scipy.integrate import quad
from scipy.optimize import minimize_scalar

from fl_core.errors import SpecError
from fl_core.privacy.accountant import (
    ORDERS,
    Guarantee,
    convert,
    curve,
    epsilon,
    forecast,
    rounds_within,
)
from fl_core.privacy.costs import GaussianCost, Neighbours, SampledGaussianCost, SkellamCost

ADD, REPLACE = Neighbours.ADD_OR_REMOVE, Neighbours.REPLACE
TOLERANCE = 2e-3
"""How far the two accountants may be apart, as a share: the best of their orders are not the same."""

CHORDS = 0.04
"""How far a chord between two whole orders may lie above the curve of sampled noise, as a share of epsilon."""

DELTA = 1e-5


def integrated(multiplier: float, rate: float, order: float) -> float:
    """The greater of D_order of a normal law and of its mixture with a shifted one, by numeric integration."""

    def log_normal(x: float, mean: float) -> float:
        return -((x - mean) ** 2) / (2 * multiplier**2) - math.log(multiplier * math.sqrt(2 * math.pi))

    def log_mixture(x: float) -> float:
        still = math.log1p(-rate) + log_normal(x, 0) if rate < 1 else -math.inf
        return float(np.logaddexp(still, math.log(rate) + log_normal(x, 1)))

    def one(numerator: Any, denominator: Any, centres: list[float]) -> float:
        def value(x: float) -> float:
            return math.exp(order * numerator(x) + (1 - order) * denominator(x) - top)

        top = max(order * numerator(x) + (1 - order) * denominator(x) for x in centres)
        low, high = min(centres) - 12 * multiplier, max(centres) + 12 * multiplier
        total = quad(value, low, high, limit=500, points=sorted(centres))[0]
        return (math.log(total) + top) / (order - 1)

    plain = lambda x: log_normal(x, 0)  # noqa: E731 - the law as a value
    return max(
        one(log_mixture, plain, [0.0, 1.0, order / 2, order]),
        one(plain, log_mixture, [0.0, 1.0, -order, (1 - order) / 2]),
    )


def epsilon_by_hand(multiplier: float, rate: float, times: int) -> float:
    """Compose, and convert by proposition 12 of Canonne, Kamath, Steinke 2020."""

    def at(log_order: float) -> float:
        order = 1 + math.exp(log_order)
        total = times * integrated(multiplier, rate, order)
        return total + math.log1p(-1 / order) - math.log(DELTA * order) / (order - 1)

    return float(minimize_scalar(at, bounds=(math.log(0.1), math.log(60)), method="bounded").fun)


@pytest.mark.parametrize(("multiplier", "times"), [(0.7, 1), (1.0, 1), (4.0, 30), (20.0, 1000)])
def test_gaussian_noise_agrees_with_integration(multiplier: float, times: int) -> None:
    """The same epsilon, within the stated tolerance, from divergences that are integrated."""
    ours = epsilon([GaussianCost(noise_multiplier=multiplier)] * times, delta=DELTA, neighbours=ADD)
    assert ours == pytest.approx(epsilon_by_hand(multiplier, 1.0, times), rel=TOLERANCE)


@pytest.mark.parametrize(
    ("multiplier", "rate", "steps"), [(1.1, 0.01, 1000), (0.8, 0.1, 20), (2.0, 0.05, 4000)]
)
def test_sampled_noise_agrees_with_integration(multiplier: float, rate: float, steps: int) -> None:
    """The formula for sampled examples against integrals of the mixture, both ways round; never below them."""
    cost = SampledGaussianCost(noise_multiplier=multiplier, rate=rate, steps=steps)
    wanted = epsilon_by_hand(multiplier, rate, steps)
    assert wanted <= epsilon([cost], delta=DELTA, neighbours=ADD) <= wanted * (1 + CHORDS)


@settings(deadline=None, max_examples=30)
@given(some.floats(0.5, 20), some.sampled_from([0.001, 0.02, 0.3, 1.0]), some.integers(1, 2000))
def test_the_library_has_the_same_divergences(multiplier: float, rate: float, steps: int) -> None:
    """Google's accountant adds up the same at whole orders up to 300, and turns that into the same epsilon."""
    cost = SampledGaussianCost(noise_multiplier=multiplier, rate=rate, steps=steps)
    orders = [order for order in ORDERS if order == int(order) and order < 300]
    library = dp_accounting.rdp.RdpAccountant(orders)
    step = dp_accounting.GaussianDpEvent(multiplier)
    library.compose(dp_accounting.PoissonSampledDpEvent(rate, step), steps)
    assert [cost.divergence(order, ADD) for order in orders] == pytest.approx(library.rdp, rel=1e-9)
    theirs = dp_accounting.rdp.compute_epsilon(ORDERS, curve(cost, ADD), DELTA)[0]
    assert epsilon([cost], delta=DELTA, neighbours=ADD) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(
    "event",
    [
        (dp_accounting.GaussianDpEvent(3.0), 10, [GaussianCost(noise_multiplier=3.0)] * 10),
        (
            dp_accounting.PoissonSampledDpEvent(0.02, dp_accounting.GaussianDpEvent(1.2)),
            400,
            [SampledGaussianCost(noise_multiplier=1.2, rate=0.02, steps=400)],
        ),
    ],
    ids=["gaussian", "sampled"],
)
def test_epsilon_is_never_less_than_the_tightest_known(event: Any) -> None:
    """The privacy loss distribution, which is nearly exact, proves a smaller epsilon, by a quarter at most."""
    from dp_accounting import pld  # noqa: PLC0415 - a second that not every test needs

    what, times, costs = event
    tight = pld.PLDAccountant()
    tight.compose(what, times)
    ours = epsilon(costs, delta=DELTA, neighbours=ADD)
    assert tight.get_epsilon(DELTA) <= ours <= 1.25 * tight.get_epsilon(DELTA)


def test_fine_units_make_skellam_noise_cost_what_gaussian_does() -> None:
    """With sensitivity 1000 units Skellam noise is dearer by less than a thousandth, with 3 units by more."""
    wanted = epsilon([GaussianCost(noise_multiplier=1.0)] * 5, delta=DELTA, neighbours=ADD)
    fine = SkellamCost(variance=1e6, l1=10**5, l2_squared=10**6)
    coarse = SkellamCost(variance=9.0, l1=9, l2_squared=9)
    assert wanted < epsilon([fine] * 5, delta=DELTA, neighbours=ADD) < wanted * 1.001
    assert epsilon([coarse] * 5, delta=DELTA, neighbours=ADD) > wanted * 1.1


@pytest.mark.parametrize("wanted", [0.05, 0.5, 3.0, 30.0, 100.0])
def test_the_orders_are_dense_enough(wanted: float) -> None:
    """From epsilon 0.05 to 100 no order that is missing would make a Gaussian's epsilon a hundredth smaller."""
    multiplier = next(z for z in np.geomspace(500, 0.05, 400) if convert(curve_of(z), delta=DELTA) >= wanted)
    orders = np.geomspace(1.02, 20_000, 20_000)
    best = (
        orders / (2 * multiplier**2) + np.log1p(-1 / orders) - np.log(DELTA * orders) / (orders - 1)
    ).min()
    assert best <= convert(curve_of(multiplier), delta=DELTA) <= best * 1.01


def curve_of(multiplier: float) -> Any:
    return curve(GaussianCost(noise_multiplier=float(multiplier)), ADD)


costs = some.lists(
    some.sampled_from(
        [
            GaussianCost(noise_multiplier=2.0),
            SkellamCost(variance=400.0, l1=50, l2_squared=90),
            SampledGaussianCost(noise_multiplier=1.0, rate=0.01, steps=10),
        ]
    ),
    max_size=6,
)


@settings(deadline=None)
@given(costs, costs)
def test_epsilon_only_grows(some_costs: Any, more: Any) -> None:
    """Costs of all kinds add up in any order, each makes epsilon larger, and none at all is zero."""
    before = epsilon(some_costs, delta=DELTA, neighbours=ADD)
    after = epsilon([*some_costs, *more], delta=DELTA, neighbours=ADD)
    assert after == pytest.approx(epsilon([*more, *some_costs], delta=DELTA, neighbours=ADD))
    assert after >= before
    assert (after > before) == bool(more)
    assert (before == 0) == (not some_costs)


@settings(deadline=None)
@given(some.floats(0.3, 30), some.floats(0.3, 30), some.integers(0, 5))
def test_the_rounds_that_fit_fit_and_one_more_does_not(budget: float, multiplier: float, spent: int) -> None:
    """Beside what is spent, so many rounds stay within the budget and the next one passes it."""
    cost = GaussianCost(noise_multiplier=multiplier)
    before = [cost] * spent
    rounds = rounds_within([cost], budget=budget, delta=DELTA, neighbours=ADD, spent=before)
    if rounds:
        assert epsilon(before + [cost] * rounds, delta=DELTA, neighbours=ADD) <= budget
    assert epsilon(before + [cost] * (rounds + 1), delta=DELTA, neighbours=ADD) > budget


def test_a_forecast_is_the_sum_of_its_rounds() -> None:
    """What `rounds` of a job cost together, votes on the clip norm included."""
    each = [GaussianCost(noise_multiplier=3.0), GaussianCost(noise_multiplier=20.0)]
    wanted = epsilon(each * 40, delta=DELTA, neighbours=ADD)
    assert forecast(each, rounds=40, delta=DELTA, neighbours=ADD) == pytest.approx(wanted)


def test_to_replace_one_takes_twice_the_noise() -> None:
    """The neighbouring relation is part of the figure: replacing costs more for the same noise."""
    half = epsilon([GaussianCost(noise_multiplier=1.0)], delta=DELTA, neighbours=ADD)
    assert epsilon([GaussianCost(noise_multiplier=2.0)], delta=DELTA, neighbours=REPLACE) == pytest.approx(
        half
    )
    with pytest.raises(SpecError, match="replace one is not known"):
        curve(SampledGaussianCost(noise_multiplier=1.0, rate=0.1, steps=1), REPLACE)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_a_delta_is_a_small_probability(delta: float) -> None:
    """Zero, one and nonsense are refused with the YAML path."""
    with pytest.raises(SpecError, match="privacy.budget.delta is"):
        epsilon([GaussianCost(noise_multiplier=1.0)], delta=delta, neighbours=ADD)


def test_no_number_is_not_taken_for_no_cost() -> None:
    """Divergences that are NaN or negative, are refused."""
    for wrong in (math.nan, -1.0):
        with pytest.raises(SpecError, match="too extreme"):
            convert(np.full(len(ORDERS), wrong), delta=DELTA)
    assert convert(np.full(len(ORDERS), math.inf), delta=DELTA) == math.inf


def test_an_epsilon_says_what_it_is_about() -> None:
    """The unit, the neighbours, delta and the adversary stand beside every epsilon."""
    text = str(Guarantee(2.5, 1e-6, "worker", ADD, "everyone but the server"))
    assert text == (
        "epsilon 2.5 at delta 1e-06 for data sets that differ by add or remove one worker, "
        "against everyone but the server"
    )


@pytest.mark.parametrize("multiplier", [0.0, 1e-170, 1e-4, math.nan, math.inf, 1e300])
def test_noise_that_float64_cannot_tell_from_none_has_no_cost(multiplier: float) -> None:
    """Such a multiplier is refused when the cost is stated; it never comes to an epsilon, least of all to zero."""
    for cost in (
        lambda: GaussianCost(noise_multiplier=multiplier),
        lambda: SampledGaussianCost(noise_multiplier=multiplier, rate=0.5, steps=1),
    ):
        with pytest.raises(ValidationError, match="noise_multiplier"):
            cost()


@pytest.mark.parametrize("rate", [1e-9, 0.5, 1.0])
def test_the_least_noise_that_may_be_stated_costs_far_too_much(rate: float) -> None:
    """At both ends of what may be stated epsilon is a number, and the right way round."""
    most, least = (
        epsilon([SampledGaussianCost(noise_multiplier=z, rate=rate, steps=1)], delta=DELTA, neighbours=ADD)
        for z in (1e-3, 1e9)
    )
    assert most > 1000
    assert 0 <= least < 0.1
