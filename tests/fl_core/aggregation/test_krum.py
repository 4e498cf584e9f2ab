"""Krum takes one part, the one nearest to most others, as the paper defines it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings

from fl_core.aggregation.krum import Krum
from fl_core.weights import Weights
from tests.fl_core.aggregation.parts import flat, part, parts, results


def slow(some: list[Weights], hostile: int) -> list[list[float]]:
    """The parts with the least score, in exact numbers."""
    exact = [[Fraction(value) for value in flat(one)] for one in some]
    scores = []
    for own, one in enumerate(exact):
        away = sorted(
            sum((a - b) ** 2 for a, b in zip(one, other, strict=True))
            for place, other in enumerate(exact)
            if place != own
        )
        scores.append(sum(away[: max(1, len(some) - hostile - 2)]))
    return [flat(one) for one, score in zip(some, scores, strict=True) if score == min(scores)]


def test_the_one_in_the_middle_of_the_crowd() -> None:
    """Of five, with one hostile, each counts its two nearest: the part between two near ones wins."""
    some = [part(0, 0, 0), part(1, 0, 0), part(2.5, 0, 0), part(9, 9, 9), part(1e6, 0, 0)]
    assert flat(Krum(hostile=1).reduce(some)) == [1, 0, 0]


@given(parts(least=5))
@settings(deadline=None)
def test_it_is_the_slow_one(some: list[Weights]) -> None:
    """With whole numbers, where nothing is rounded, the choice is that of the exact scores."""
    whole = [{name: np.asarray(np.rint(array / 1e3)) for name, array in one.items()} for one in some]
    assert flat(Krum(hostile=1).reduce(whole)) in slow(whole, 1)


@given(parts(least=3, most=5))
@settings(deadline=None)
def test_no_order_changes_a_bit(some: list[Weights]) -> None:
    """In whatever order the parts come the same one is taken, where several score the same too."""
    assert len(results(Krum(hostile=0), some)) == 1


def test_hostile_parts_are_not_taken() -> None:
    """With 2f + 3 parts, f far away and the same, the result is an honest one."""
    rng, rule = np.random.default_rng(3), Krum(hostile=2)
    honest = [{"w": rng.normal(1, 0.1, 50)} for _ in range(rule.fewest - 2)]
    for attack in (np.full(50, -100.0), np.full(50, 1e200), np.full(50, -1.0)):
        taken = rule.reduce([{"w": attack}, *honest, {"w": attack}])["w"]
        assert any(np.array_equal(taken, one["w"]) for one in honest)


@pytest.mark.parametrize("hostile", [0, 1, 4])
def test_it_needs_three_more_than_twice_the_hostile(hostile: int) -> None:
    """The condition of the paper, 2f + 2 < n."""
    assert Krum(hostile=hostile).fewest == 2 * hostile + 3
