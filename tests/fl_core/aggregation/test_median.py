"""The median of each element, as the paper defines it, whatever a minority says."""

from __future__ import annotations

import statistics

import numpy as np
from hypothesis import given, settings

from fl_core.aggregation.median import Median
from fl_core.weights import Weights
from tests.fl_core.aggregation.parts import columns, flat, part, parts, results


def test_the_middle_of_three_and_of_four() -> None:
    """Of an odd number it is the middle one, of an even number halfway between two; shapes and names stay."""
    three = [part(1, 10, -5), part(2, -7, 0.5), part(4, 3, 9)]
    assert flat(Median(hostile=1).reduce(three)) == [2, 3, 0.5]
    found = Median(hostile=1).reduce([*three, part(8, 5, 1e6)])
    assert flat(found) == [3, 4, 4.75]
    assert {name: (array.dtype.name, array.shape) for name, array in found.items()} == {
        "w": ("float64", (1, 2)),
        "b": ("float64", ()),
    }


@given(parts(least=1))
@settings(deadline=None)
def test_it_is_the_slow_one(some: list[Weights]) -> None:
    """Each element is what the standard library's median gives for it."""
    assert flat(Median(hostile=0).reduce(some)) == [statistics.median(column) for column in columns(some)]


@given(parts(least=1, most=5))
@settings(deadline=None)
def test_no_order_changes_a_bit(some: list[Weights]) -> None:
    """In whatever order the parts come, the bytes are the same, those of zeros included."""
    assert len(results(Median(hostile=0), some)) == 1


@given(parts(least=3, most=3), parts(least=2, most=2))
@settings(deadline=None)
def test_a_minority_cannot_leave_the_honest(honest: list[Weights], hostile: list[Weights]) -> None:
    """With 2f + 1 parts the result lies between honest values, element by element, whatever f parts hold."""
    rule = Median(hostile=2)
    assert len(honest) + len(hostile) == rule.fewest == 5
    found = flat(rule.reduce([*hostile, *honest]))
    assert all(min(c) <= value <= max(c) for value, c in zip(found, columns(honest), strict=True))


def test_many_elements_are_taken_piece_by_piece() -> None:
    """An array longer than a piece comes out as numpy's median of all of it."""
    some = np.random.default_rng(1).normal(size=(5, 70_001))
    found = Median(hostile=2).reduce([{"w": row} for row in some])["w"]
    assert np.array_equal(found, np.median(some, axis=0))
