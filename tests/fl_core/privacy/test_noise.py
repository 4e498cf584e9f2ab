"""Noise has the law that the accountant reckons with."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats

from fl_core.errors import SpecError
from fl_core.privacy import noise
from fl_core.privacy.noise import (
    GRAIN,
    LARGEST_GAUSSIAN,
    LARGEST_TABLE,
    MOST_DRAWS,
    bessel,
    discrete_gaussian,
    gaussian,
    happens,
    noised,
    share,
    skellam,
    uniform,
)
from fl_core.privacy.stream import BLOCK, Stream

Streams = Callable[[int], Stream]
COUNT = 200_000


@pytest.mark.parametrize("variance", [1 / GRAIN, 0.5, 3.0, 40.0, 1000.0])
def test_the_bessel_functions_are_right_to_forty_digits(variance: float) -> None:
    """The weights of a Skellam table against mpmath, at the centre, on the way and at the far end."""
    weights = bessel(round(variance * GRAIN))
    with mpmath.workdps(60):
        for place in {1, len(weights) // 2, len(weights) - 1} - {0}:
            wanted = mpmath.besseli(place, variance) / mpmath.besseli(0, variance)
            assert (
                abs(mpmath.mpf(weights[place]) / weights[0] / wanted - 1) < 1e-15 or place == len(weights) - 1
            )
            assert abs(mpmath.mpf(weights[place]) / weights[0] - wanted) < mpmath.mpf(10) ** -42
        beyond = mpmath.besseli(len(weights), variance) / mpmath.besseli(0, variance)
        assert beyond < mpmath.mpf(2) ** -139


@pytest.mark.parametrize("variance", [0.1, 1.0, 7.5, 400.0, 10_000.0])
def test_skellam_draws_have_the_skellam_law(
    stream: Streams, misfit: Callable[..., float], variance: float
) -> None:
    """Draws against the probabilities that scipy has for the difference of two Poissons."""
    reach = math.ceil(8 * math.sqrt(variance)) + 3
    law = {k: float(stats.skellam.pmf(k, variance / 2, variance / 2)) for k in range(-reach, reach)}
    assert misfit(skellam(COUNT, variance=variance, stream=stream(4)), law) > 1e-4


def test_a_large_skellam_is_a_sum_of_smaller_ones(
    stream: Streams, misfit: Callable[..., float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit into one table has the same law."""
    monkeypatch.setattr(noise, "LARGEST_TABLE", 4)
    drawn = skellam(COUNT, variance=30.0, stream=stream(5))
    assert misfit(drawn, {k: float(stats.skellam.pmf(k, 15, 15)) for k in range(-40, 41)}) > 1e-4


@pytest.mark.parametrize("variance", [0.0, -1.0, math.nan, LARGEST_TABLE * MOST_DRAWS * 1.1])
def test_an_impossible_skellam_is_refused(stream: Streams, variance: float) -> None:
    """No noise at all and more than can be drawn are told with the figure."""
    with pytest.raises(SpecError, match="Skellam variance of .* use fewer units per clip norm"):
        skellam(1, variance=variance, stream=stream(0))


@pytest.mark.parametrize("variance", [1, 2, 37, 2500])
def test_discrete_gaussian_draws_have_their_law(
    stream: Streams, misfit: Callable[..., float], variance: int
) -> None:
    """Draws against exp(-k^2 / 2 variance), normalised."""
    reach = math.ceil(9 * math.sqrt(variance))
    weights = {k: math.exp(-k * k / (2 * variance)) for k in range(-reach, reach + 1)}
    total = sum(weights.values())
    drawn = discrete_gaussian(COUNT, variance=variance, stream=stream(6))
    assert misfit(drawn, {k: weight / total for k, weight in weights.items()}) > 1e-4


@pytest.mark.parametrize("variance", [10**6, 10**12 + 7, LARGEST_GAUSSIAN])
def test_wide_discrete_gaussians_look_normal(stream: Streams, variance: int) -> None:
    """Far from the grid's size the law is the normal one (Kolmogorov and Smirnov)."""
    drawn = discrete_gaussian(COUNT, variance=variance, stream=stream(7)) / math.sqrt(variance)
    assert stats.kstest(drawn, "norm").pvalue > 1e-4


@pytest.mark.parametrize("variance", [0, -4, LARGEST_GAUSSIAN + 1])
def test_an_impossible_discrete_gaussian_is_refused(stream: Streams, variance: int) -> None:
    """No noise at all and more than 64 bits can hold are told with the figure."""
    with pytest.raises(SpecError, match="discrete Gaussian of variance"):
        discrete_gaussian(1, variance=variance, stream=stream(0))


def test_any_number_of_draws_can_be_had(stream: Streams) -> None:
    """Sizes that fill no block, one block and more."""
    for size in (0, 1, 2, BLOCK - 1, BLOCK + 1):
        assert discrete_gaussian(size, variance=9, stream=stream(1)).shape == (size,)
        assert skellam(size, variance=9.0, stream=stream(1)).shape == (size,)
        assert gaussian(size, stream=stream(1)).shape == (size,)


def test_what_is_too_close_for_float64_is_decided_exactly(
    stream: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every comparison sent the exact way, every outcome is the same."""
    exponents = np.linspace(0, 4, 500)
    quick = happens(exponents, lambda index: Fraction(float(exponents[index])), stream(8))
    counts = noise._geometric(500, stream(9))
    monkeypatch.setattr(noise, "CLOSE", 2.0)
    slow = happens(exponents, lambda index: Fraction(float(exponents[index])), stream(8))
    assert 20 < quick.sum() < 480
    assert np.array_equal(quick, slow)
    assert np.array_equal(counts, noise._geometric(500, stream(9)))


def test_the_exact_way_gives_the_same_law(
    stream: Streams, misfit: Callable[..., float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Draws of which every decision is made with 192 bits follow the law too: the fractions are the right ones."""
    monkeypatch.setattr(noise, "CLOSE", 2.0)
    drawn = discrete_gaussian(3000, variance=6, stream=stream(10))
    weights = {k: math.exp(-k * k / 12) for k in range(-15, 16)}
    assert misfit(drawn, {k: w / sum(weights.values()) for k, w in weights.items()}) > 1e-4


def test_a_geometric_count_is_right_in_its_tail(stream: Streams) -> None:
    """A count v comes with probability (1 - 1/e) e^-v."""
    drawn = noise._geometric(BLOCK, stream(11))
    for least in range(6):
        wanted = math.exp(-least)
        assert abs((drawn >= least).mean() - wanted) < 5 * math.sqrt(wanted / BLOCK)


@given(some.integers(1, 1 << 62))
def test_words_that_would_favour_some_are_left_out(below: int) -> None:
    """Of the highest words those are dropped that fill no whole turn; the rest falls evenly."""
    fair = (1 << 64) // below * below

    class Last(Stream):
        def __init__(self) -> None:
            pass

        def words(self, count: int) -> Any:
            edge = [0, below - 1, below, fair - 1, min(fair, (1 << 64) - 1), (1 << 64) - 1]
            return np.array(edge, np.uint64)[:count]

    drawn = uniform(6, below=below, stream=Last()).tolist()
    kept = [one for one in (0, below - 1, below, fair - 1, min(fair, 2**64 - 1), 2**64 - 1) if one < fair]
    assert drawn == [one % below for one in kept]


def test_the_normal_law(stream: Streams) -> None:
    """Box and Muller's pairs are standard normal and the halves of a pair are not alike."""
    drawn = gaussian(COUNT, stream=stream(12))
    assert stats.kstest(drawn, "norm").pvalue > 1e-4
    half = BLOCK // 2
    assert abs(np.corrcoef(drawn[:half], drawn[half:BLOCK])[0, 1]) < 5 / math.sqrt(half)
    assert np.abs(drawn).max() < 9.5


@pytest.mark.parametrize("deviation", [1e-6, 0.3, 1.0, 5e4])
def test_noised_values_lie_on_a_grid_that_they_did_not_choose(stream: Streams, deviation: float) -> None:
    """Whatever the values were, what is handed in are multiples of one power of two, a millionth of the noise."""
    grid = 2.0 ** math.floor(math.log2(deviation)) / 2**20
    values = np.linspace(-1, 1, 1000).reshape(10, 100) / 3 * deviation
    handed_in = noised(values, deviation=deviation, stream=stream(13))
    assert handed_in.shape == values.shape
    assert np.array_equal(handed_in / grid, np.rint(handed_in / grid))
    assert deviation / 2**21 < grid <= deviation / 2**20
    assert (handed_in - values).std() == pytest.approx(deviation, rel=0.1)


@given(some.floats(1e-6, 1e12), some.integers(1, 10_000))
def test_the_shares_of_the_honest_are_enough(variance: float, honest: int) -> None:
    """So many shares sum up to the whole variance and to hardly more, exactly, and are what a table is made for."""
    each = share(variance, honest)
    assert Fraction(each) * honest >= Fraction(variance)
    assert each <= variance / honest * (1 + 1e-9) + 1 / GRAIN
    assert each * GRAIN == int(each * GRAIN)


def test_no_honest_survivor_is_refused() -> None:
    """Where nobody is sure to be honest no share is enough."""
    with pytest.raises(SpecError, match="0 honest survivors"):
        share(1.0, 0)
