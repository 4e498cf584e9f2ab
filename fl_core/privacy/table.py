"""Exact draws from a fixed law over a range of whole numbers, a few nanoseconds each.

The alias method (Walker 1977, Vose 1991): every value has a cell, all cells are equally likely, and a cell holds its
own value up to a threshold and one other value above it. One word of 64 bits chooses the cell and is compared with
the threshold. The thresholds are known to 192 bits; a word that equals all that it could be compared with, about one
in 2^45, is decided by further bits. So the law differs from the one that the weights say by at most 2^-128 in total
variation, however many bits a word has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fl_core.privacy.stream import BLOCK, Stream, Words

Integers = npt.NDArray[np.int64]

PRECISION = 192
"""Bits of a threshold."""

_WORD = 64


@dataclass(frozen=True, slots=True)
class Table:
    """The cells: thresholds to as many bits as a word leaves, the other values, and all bits for the rare tie."""

    first: int
    shift: int
    short: Words
    other: Integers
    exact: Sequence[int]

    @classmethod
    def of(cls, weights: Sequence[int], *, first: int) -> Table:
        """A table for the values `first`, `first + 1`, ... with these relative weights, at least one not zero."""
        bits = max(1, (len(weights) - 1).bit_length())
        thresholds, others = _cells(list(weights) + [0] * ((1 << bits) - len(weights)))
        shift = _WORD - bits
        short = np.array([one >> (PRECISION - shift) for one in thresholds], np.uint64)
        return cls(first, shift, short, np.array(others, np.int64), thresholds)

    def draw(self, count: int, stream: Stream) -> Integers:
        """So many independent values."""
        drawn = np.empty(count, np.int64)
        for start in range(0, count, BLOCK):
            self._draw_block(drawn[start : start + BLOCK], stream)
        drawn += self.first
        return drawn

    def _draw_block(self, cells: Integers, stream: Stream) -> None:
        words = stream.words(cells.size)
        np.right_shift(words, np.uint64(self.shift), out=cells.view(np.uint64))
        words &= np.uint64((1 << self.shift) - 1)
        thresholds = self.short.take(cells, mode="clip")
        above = words >= thresholds
        ties = np.flatnonzero(words == thresholds)
        below = [tie for tie in ties if self._below(int(cells[tie]), stream)]
        above[below] = False
        np.copyto(cells, self.other.take(cells, mode="clip"), where=above)

    def _below(self, cell: int, stream: Stream) -> bool:
        """Whether a fraction that agrees with the cell's threshold so far falls below it."""
        rest = PRECISION - self.shift
        return stream.bits(rest) < self.exact[cell] & ((1 << rest) - 1)


def _cells(weights: list[int]) -> tuple[list[int], list[int]]:
    """For each of 2^k weights the share of its cell that is its own, in units of 2^-192, and who has the rest."""
    total, count = sum(weights), len(weights)
    left = [weight * count for weight in weights]
    thresholds, others = [1 << PRECISION] * count, list(range(count))
    small = [cell for cell in range(count) if left[cell] < total]
    large = [cell for cell in range(count) if left[cell] >= total]
    while small:
        poor, rich = small.pop(), large[-1]
        thresholds[poor], others[poor] = (left[poor] << PRECISION) // total, rich
        left[rich] -= total - left[poor]
        if left[rich] < total:
            small.append(large.pop())
    return thresholds, others
