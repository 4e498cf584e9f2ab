"""The trimmed mean of each element, as the paper defines it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from fl_core.aggregation.trimmed_mean import TrimmedMean
from fl_core.weights import Weights
from tests.fl_core.aggregation.parts import columns, flat, part, parts, results


def test_one_of_five_is_cut_off_at_either_end() -> None:
    """A fifth of five parts is one: the least and the greatest of each element do not count."""
    some = [part(1, 0, 9), part(2, -4, 9), part(3, 1e9, 9), part(6, 2, 9), part(-1e9, 4, 9)]
    assert flat(TrimmedMean(hostile=1, trim=0.2).reduce(some)) == [2, 2, 9]


@given(parts(least=1), st.sampled_from((0.05, 0.1, 0.2, 0.3, 0.45)))
@settings(deadline=None)
def test_it_is_the_slow_one(some: list[Weights], trim: float) -> None:
    """Each element is the mean of its sorted values without floor(trim * n) of them at either end."""
    cut = math.floor(round(trim * 100) * len(some) / 100)
    slow = [math.fsum(kept := sorted(c)[cut : len(c) - cut]) / len(kept) for c in columns(some)]
    assert flat(TrimmedMean(hostile=0, trim=trim).reduce(some)) == pytest.approx(slow, rel=1e-12, abs=1e-6)


@given(parts(least=1, most=5))
@settings(deadline=None)
def test_no_order_changes_a_bit(some: list[Weights]) -> None:
    """In whatever order the parts come, the bytes are the same, those of zeros included."""
    assert len(results(TrimmedMean(hostile=0, trim=0.25), some)) == 1


@given(parts(least=4, most=4), parts(least=1, most=1))
@settings(deadline=None)
def test_as_many_as_are_cut_off_cannot_leave_the_honest(
    honest: list[Weights], hostile: list[Weights]
) -> None:
    """With floor(trim * n) = f the result lies between honest values, whatever f parts hold."""
    rule = TrimmedMean(hostile=1, trim=0.2)
    assert len(honest) + len(hostile) == rule.fewest
    found = flat(rule.reduce([*hostile, *honest]))
    rounding = 1e-9
    for value, column in zip(found, columns(honest), strict=True):
        assert min(column) - rounding <= value <= max(column) + rounding


@pytest.mark.parametrize(
    ("hostile", "trim", "fewest"), [(0, 0.1, 1), (1, 0.2, 5), (1, 0.3, 4), (3, 0.1, 30), (2, 0.49, 5)]
)
def test_it_needs_enough_parts_for_its_share(hostile: int, trim: float, fewest: int) -> None:
    """The fewest parts are those of which the share, as it is written, is as many as may be hostile."""
    assert TrimmedMean(hostile=hostile, trim=trim).fewest == fewest > 2 * hostile


@pytest.mark.parametrize("trim", [0, 0.5, -0.1, float("nan"), "some"])
def test_what_a_share_cannot_be(trim: object) -> None:
    """Cutting off nothing is the mean, and cutting off half from either end leaves nothing: refused where read."""
    with pytest.raises(ValidationError, match="trim"):
        TypeAdapter(TrimmedMean).validate_python({"hostile": 0, "trim": trim})
