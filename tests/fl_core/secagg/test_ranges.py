"""Ranges: learned from votes, moved by strain, settled where nobody needs another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from fl_core.errors import UpdateError
from fl_core.secagg.ranges import BUCKETS, HIGHEST, LOWEST, learned, moved, needed, strain, votes

values = some.floats(-(2.0**HIGHEST), 2.0**HIGHEST, allow_nan=False)
exponents = some.integers(LOWEST, HIGHEST)


@given(some.lists(values, min_size=1, max_size=5))
def test_the_range_is_the_smallest_that_holds_all(elements: list[float]) -> None:
    """No element exceeds its power of two, and one less would not do."""
    [exponent] = needed({"x": np.array(elements)})
    largest = max(map(abs, elements))
    assert largest <= 2.0**exponent
    assert exponent == LOWEST or largest > 2.0 ** (exponent - 1)


@pytest.mark.parametrize("exponent", [LOWEST, -1, 0, 1, HIGHEST])
def test_a_power_of_two_needs_no_more_than_itself(exponent: int) -> None:
    """The ends of the scale are among them."""
    assert needed({"x": np.array([-(2.0**exponent)])}) == (exponent,)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(dtype: Any, value: float) -> None:
    """The array is named, wherever the value stands; strain and votes refuse it, too."""
    update = {"good": np.ones(2, dtype), "bad": np.array([0, value, 1], dtype)}
    for ask in (needed, votes, lambda one: strain(one, (0, 0))):
        with pytest.raises(UpdateError, match="'bad' holds values that are not finite"):
            ask(update)


def test_what_no_range_holds_is_refused() -> None:
    """Beyond the highest range training has diverged."""
    with pytest.raises(UpdateError, match=r"'x' holds values beyond 2\^23|'x' holds values up to"):
        needed({"x": np.array([2.0**HIGHEST * 1.01])})


def test_empty_and_zero_arrays_need_the_least() -> None:
    """As do values that are hardly any."""
    update = {"none": np.zeros((0, 3)), "zero": np.zeros(4), "tiny": np.array([5e-324])}
    assert needed(update) == (LOWEST,) * 3


@given(some.lists(some.tuples(values, values), min_size=1, max_size=6))
def test_the_learned_ranges_hold_everybody(members: list[tuple[float, float]]) -> None:
    """The sum of the votes gives for each array the greatest of the members' exponents; each votes once for each."""
    updates = [{"a": np.array([a]), "b": np.array([b])} for a, b in members]
    total = sum(votes(update) for update in updates)
    assert total.sum() == 2 * len(members)
    assert len(total) == 2 * BUCKETS
    assert learned(total) == tuple(map(max, zip(*map(needed, updates), strict=True)))


@given(some.lists(values, min_size=1, max_size=6), exponents)
def test_ranges_move_by_one_and_settle(members: list[float], start: int) -> None:
    """Whatever it was, the range doubles until it holds all, or halves until it would be too small soon, and stays."""
    updates = [{"x": np.array([value])} for value in members]
    own = max(needed(update)[0] for update in updates)
    given_, last = (start,), None
    for _ in range(BUCKETS + 2):
        total = sum(strain(update, given_) for update in updates)
        last, given_ = given_, moved(given_, total, members=len(updates))
        assert abs(given_[0] - last[0]) <= 1
    assert given_ == last
    assert own <= given_[0] <= max(own + 1, min(start, own + 1))


def test_one_member_beyond_its_range_is_enough() -> None:
    """Each array moves by itself; it halves only where all could do with a quarter."""
    small, large = {"a": np.array([0.1]), "b": np.array([0.1])}, {"a": np.array([3.0]), "b": np.array([0.2])}
    total = strain(small, (1, 1)) + strain(small, (1, 1)) + strain(large, (1, 1))
    assert moved((1, 1), total, members=3) == (2, 0)
    assert moved((1, 1), total, members=4) == (2, 1), "who said nothing needs the range"


def test_the_ends_of_the_scale_hold() -> None:
    """No range moves beyond the lowest or the highest."""
    beyond, roomy = np.array([5, 0]), np.array([0, 5])
    assert moved((HIGHEST,), beyond, members=5) == (HIGHEST,)
    assert moved((LOWEST,), roomy, members=5) == (LOWEST,)
