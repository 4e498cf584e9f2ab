"""A table has exactly the law that its weights say."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from fl_core.privacy.stream import Stream
from fl_core.privacy.table import COMPARED, PRECISION, Table

weights_of_any_size = some.lists(some.integers(0, 1 << 300), min_size=1, max_size=40).filter(any)


def law(table: Table) -> dict[int, Fraction]:
    """What the cells say, to all their bits."""
    found: dict[int, Fraction] = {}
    cells = len(table.exact)
    for cell, (own, other) in enumerate(zip(table.exact, table.other.tolist(), strict=True)):
        share = Fraction(own, 1 << PRECISION)
        found[cell] = found.get(cell, Fraction(0)) + share / cells
        found[other] = found.get(other, Fraction(0)) + (1 - share) / cells
    return {table.first + cell: probability for cell, probability in found.items()}


@given(weights_of_any_size, some.integers(-(10**6), 10**6))
def test_the_cells_hold_the_weights(weights: list[int], first: int) -> None:
    """Added up over the cells, each value has its weight's share to 2^-190, and no other value has any."""
    found = law(Table.of(weights, first=first))
    for place in range(len(found)):
        wanted = Fraction(weights[place], sum(weights)) if place < len(weights) else Fraction(0)
        assert abs(found[first + place] - wanted) <= Fraction(len(found), 1 << 190)
        assert wanted > 0 or found[first + place] == 0


@given(weights_of_any_size)
def test_a_word_sees_the_first_bits_of_the_thresholds(weights: list[int]) -> None:
    """What a draw is compared with are 32 bits of the threshold; in a full cell the comparison does not matter."""
    table = Table.of(weights, first=0)
    assert len(table.exact) == 1 << table.bits >= len(weights)
    for cell, exact in enumerate(table.exact):
        if exact < 1 << PRECISION:
            assert table.short[cell] == exact >> (PRECISION - COMPARED)
        else:
            assert table.other[cell] == cell


@pytest.mark.parametrize("weights", [[1], [0, 5, 0], [1, 2, 3, 4], [7, 0, 1], [1] * 5])
def test_draws_follow_the_weights(
    stream: Callable[[int], Stream], misfit: Callable[..., float], weights: list[int]
) -> None:
    """A hundred thousand draws look like the law, and nothing is drawn that has no weight."""
    drawn = Table.of(weights, first=-2).draw(100_000, stream(3))
    assert all(weights[value + 2] for value in set(drawn.tolist()))
    wanted = {place - 2: weight / sum(weights) for place, weight in enumerate(weights) if weight}
    assert len(wanted) == 1 or misfit(drawn, dict(list(wanted.items())[1:])) > 1e-4


class Told(Stream):
    """Gives the words that it was told, then the bits."""

    def __init__(self, words: list[int], bits: int) -> None:
        self._words, self._bits = words, bits

    def words(self, count: int) -> Any:
        return np.array(self._words[:count], np.uint64)

    def bits(self, count: int) -> int:
        return self._bits & ((1 << count) - 1)


def test_a_tie_is_decided_by_further_bits() -> None:
    """A word that equals its threshold as far as it goes falls below or above by the bits that follow."""
    table = Table.of([1, 2], first=0)
    cell = next(place for place in (0, 1) if table.other[place] != place)
    after = 64 - table.bits - COMPARED
    word = ((cell << COMPARED) | int(table.short[cell])) << after
    rest = table.exact[cell] & ((1 << (PRECISION - COMPARED)) - 1)
    other = int(table.other[cell])
    drawn = [
        int(table.draw(1, Told([word + (step << after)], bits))[0])
        for step, bits in [(0, rest - 1), (0, rest), (0, rest + 1), (-1, rest + 1), (1, rest - 1)]
    ]
    assert drawn == [cell, other, other, cell, other]
