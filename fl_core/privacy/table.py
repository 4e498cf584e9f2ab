"""Exact draws from a fixed law over a range of whole numbers, a few nanoseconds each.

The alias method (Walker 1977, Vose 1991): every value has a cell, all cells are equally likely, and a cell holds its
own value up to a threshold and one other value above it. The first bits of a word of 64 choose the cell, and the next
32 are compared with the threshold. Thresholds are known to 192 bits: where the 32 are equal, once in 2^32 draws, fresh
bits decide. So the law differs from the one that the weights say by less than 2^-160 in total variation, and yet a cell
takes 8 bytes, and the table of a wide law stays in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fl_core.privacy.stream import BLOCK, Stream

Integers = npt.NDArray[np.int64]

PRECISION = 192
"""Bits of a threshold."""

COMPARED = 32
"""How many of them a draw is compared with at first."""

_REST = PRECISION - COMPARED
_FULL = (1 << COMPARED) - 1


@dataclass(frozen=True, slots=True)
class Table:
    """2^bits cells: the first bits of their thresholds, the other values, and all bits for the rare tie."""

    first: int
    bits: int
    short: npt.NDArray[np.uint32]
    other: npt.NDArray[np.int32]
    exact: Sequence[int]

    @classmethod
    def of(cls, weights: Sequence[int], *, first: int) -> Table:
        """A table for the values `first`, `first + 1`, ... with these relative weights, at least one not zero."""
        bits = max(1, (len(weights) - 1).bit_length())
        thresholds, others = _cells(list(weights) + [0] * ((1 << bits) - len(weights)))
        short = [min(one >> _REST, _FULL) for one in thresholds]  # a full cell's other value is its own
        return cls(first, bits, np.array(short, np.uint32), np.array(others, np.int32), thresholds)

    def draw(self, count: int, stream: Stream) -> Integers:
        """So many independent values."""
        drawn = np.empty(count, np.int64)
        for start in range(0, count, BLOCK):
            self._draw_block(drawn[start : start + BLOCK], stream)
        drawn += self.first
        return drawn

    def _draw_block(self, cells: Integers, stream: Stream) -> None:
        words = stream.words(cells.size)
        np.right_shift(words, np.uint64(64 - self.bits), out=cells.view(np.uint64))
        words <<= np.uint64(self.bits)
        fractions = words.view("<u4")[1::2]
        thresholds = self.short.take(cells, mode="clip")
        above = fractions >= thresholds
        ties = np.flatnonzero(fractions == thresholds)
        below = [tie for tie in ties if self._below(int(cells[tie]), stream)]
        above[below] = False
        np.copyto(cells, self.other.take(cells, mode="clip"), where=above)

    def _below(self, cell: int, stream: Stream) -> bool:
        """Whether a fraction that agrees with the cell's threshold so far falls below it."""
        return stream.bits(_REST) < self.exact[cell] & ((1 << _REST) - 1)


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
