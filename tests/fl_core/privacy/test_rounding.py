"""Whole numbers of bounded length, whatever the rounding draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra import numpy as hnp

from fl_core.errors import SpecError
from fl_core.privacy import rounding
from fl_core.privacy.clipping import clip
from fl_core.privacy.rounding import ENOUGH, Sensitivity, resolution, rounded, squared_norm
from fl_core.privacy.stream import Stream

Streams = Callable[[int], Stream]
vectors = hnp.arrays("f8", some.integers(1, 300), elements=some.floats(-100, 100))


def lengths(update: Any) -> tuple[int, int]:
    whole = [int(one) for array in update.values() for one in array.flat]
    return sum(map(abs, whole)), sum(one * one for one in whole)


@settings(deadline=None)
@given(vector=vectors, units=some.integers(1, 10**6), seed=some.integers(0, 99))
def test_no_update_is_longer_than_its_sensitivity(
    stream: Streams, vector: Any, units: int, seed: int
) -> None:
    """L1 and squared L2 norm after rounding, in Python's whole numbers, are at most what the accountant is told."""
    most = Sensitivity.of(units=units, dimension=vector.size)
    short, _ = clip({"a": vector[:7], "b": vector[7:]}, most=2.0)
    one, two = lengths(rounded(short, scale=units / 2.0, most=most, stream=stream(seed)))
    assert two <= most.l2_squared
    assert one <= most.l1


@settings(deadline=None)
@given(hnp.arrays("i8", some.integers(1, 50), elements=some.integers(-40, 40)))
def test_the_l1_norm_of_whole_numbers_follows_from_their_l2_norm(vector: Any) -> None:
    """A vector of whole numbers that keeps the L2 bound keeps the L1 bound that is derived from it."""
    squared = int((vector**2).sum())
    bound = min(math.isqrt(vector.size * squared), squared)
    assert np.abs(vector).sum() <= bound


@given(some.integers(1, 10**6), some.integers(1, 10**9))
def test_the_bound_is_the_papers(units: int, dimension: int) -> None:
    """The lesser of Kairouz et al.'s two bounds, cut to a whole number; never below what rounding down gives."""
    most = Sensitivity.of(units=units, dimension=dimension)
    likely = units**2 + dimension / 4 + (units + math.sqrt(dimension) / 2)  # sqrt(2 ln(1 / beta)) is 1
    wanted = min(likely, (units + math.sqrt(dimension)) ** 2)
    assert most.l2_squared == pytest.approx(wanted, abs=1)
    assert units**2 <= most.l2_squared
    assert most.l1 <= most.l2_squared


def test_rounding_keeps_the_mean(stream: Streams) -> None:
    """Over many roundings each value comes out as what went in."""
    values = np.linspace(-3, 3, 61) * 1.01
    most = Sensitivity.of(units=100, dimension=61)
    source, total = stream(1), np.zeros(61)
    for _ in range(4000):
        total += rounded({"w": values}, scale=1.0, most=most, stream=source)["w"]
    assert np.abs(total / 4000 - values).max() < 5 * 0.5 / math.sqrt(4000)


def test_whole_numbers_and_scalars_stay(stream: Streams) -> None:
    """What is whole already is not moved, in any shape; nothing at all stays nothing."""
    update = {"a": np.array([[1.0, -2.0], [0.0, 5.0]]), "b": np.array(3.0), "c": np.zeros((0, 2))}
    whole = rounded(update, scale=2.0, most=Sensitivity.of(units=20, dimension=5), stream=stream(2))
    assert whole["a"].tolist() == [[2, -4], [0, 10]]
    assert (whole["b"].shape, int(whole["b"]), whole["c"].shape) == ((), 6, (0, 2))
    assert all(array.dtype == np.int64 for array in whole.values())


def test_after_many_tries_values_go_towards_zero(stream: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no try is short enough the values are cut, which cannot be too long."""
    monkeypatch.setattr(rounding, "TRIES", 0)
    values, most = np.array([1.9, -1.9, 0.4]), Sensitivity.of(units=3, dimension=3)
    assert rounded({"w": values}, scale=1.0, most=most, stream=stream(3))["w"].tolist() == [1, -1, 0]


def test_a_try_that_is_too_long_is_thrown_away(stream: Streams) -> None:
    """Of a vector whose likely roundings are too long only those come out that are short enough."""
    values, most = np.full(400, 0.45), Sensitivity(400, 181)
    drawn = [squared_norm(rounded({"w": values}, scale=1.0, most=most, stream=stream(n))) for n in range(60)]
    free = [squared_norm({"w": rounding._stochastic(values, 1.0, stream(n))}) for n in range(60)]
    assert max(drawn) <= 181 < max(free)
    assert min(drawn) > 0


def test_what_was_not_clipped_is_refused(stream: Streams) -> None:
    """An update that is too long whatever the rounding does is an error, not a leak."""
    with pytest.raises(SpecError, match="it was not clipped"):
        rounded({"w": np.full(4, 9.0)}, scale=1.0, most=Sensitivity(8, 64), stream=stream(4))


def test_squares_are_exact_where_it_matters() -> None:
    """Sums of squares that float64 cannot hold come out to the last digit, and larger ones are large."""
    vector = np.array([2**30, 1, -(2**30)])
    assert squared_norm({"w": vector, "v": np.array(7)}) == 2**61 + 1 + 49
    assert squared_norm({"w": np.array([2**40, 1])}) >= 2**62


@pytest.mark.parametrize(("units", "dimension"), [(0, 5), (-1, 5), (5, 0), (2**31, 5)])
def test_impossible_sizes_are_refused(units: int, dimension: int) -> None:
    """No values, no units, and more than whole numbers can hold."""
    with pytest.raises(SpecError, match="cannot be rounded"):
        Sensitivity.of(units=units, dimension=dimension)


@given(
    dimension=some.integers(1, 10**8),
    cohort=some.integers(1, 1000),
    noise=some.floats(0.1, 10),
    bits=some.sampled_from([16, 32]),
)
def test_a_resolution_is_as_fine_as_pays_and_fits(
    dimension: int, cohort: int, noise: float, bits: int
) -> None:
    """No value of the sum leaves the ring, and the next finer one would, or would improve nothing."""

    def room(units: int) -> float:
        return Sensitivity.of(units=units, dimension=dimension).l2 * (cohort + 7 * noise)

    try:
        units = resolution(dimension=dimension, cohort=cohort, noise_multiplier=noise, bits=bits)
    except SpecError:
        assert room(1) >= 2 ** (bits - 1)
        return
    assert room(units) < 2 ** (bits - 1)
    assert units >= ENOUGH * math.sqrt(dimension) or room(math.ceil(units * 8 / 7) + 1) >= 2 ** (bits - 1)


def test_enough_units_add_less_than_a_hundredth() -> None:
    """At the resolution beyond which none is taken, rounding hardly adds to the sensitivity."""
    for dimension in (1000, 10**5, 10**8):
        units = resolution(dimension=dimension, cohort=3, noise_multiplier=1.0, bits=32)
        assert Sensitivity.of(units=units, dimension=dimension).l2 < 1.01 * units
