"""How large the elements of each array are, learned from sums alone.

Before the first update is summed, each worker says in which power of two the greatest magnitude of each array lies,
as a one among zeros; from the sum of these the server takes the smallest range that holds everybody's. After the first
sum within it each update counts, for each array, whether it went beyond the range and whether it left three quarters
of it unused: the range doubles where anybody went beyond it and halves where nobody needs it. The first sum counts
neither, for the votes tell the same, and may be of other members.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from fl_core.errors import UpdateError
from fl_core.weights import Weights

LOWEST: Final = -40
HIGHEST: Final = 23
"""Exponents of the smallest and the largest range."""

BUCKETS: Final = HIGHEST - LOWEST + 1

Counts = npt.NDArray[np.int64]
Exponents = tuple[int, ...]


def needed(update: Weights) -> Exponents:
    """The smallest exponent of each array whose power of two no element exceeds; refuses what no range holds."""
    exponents = []
    for name, array in update.items():
        largest = float(np.abs(array).max()) if array.size else 0.0
        if not np.isfinite(largest):
            raise UpdateError(
                f"array {name!r} holds values that are not finite numbers (NaN or infinite); "
                "lower the learning rate or check the data"
            )
        exponent = math.frexp(largest)[1] if largest else LOWEST
        exponent -= largest == math.ldexp(1.0, exponent - 1)
        if exponent > HIGHEST:
            raise UpdateError(
                f"array {name!r} holds values beyond 2^{HIGHEST}: training has diverged; lower the learning rate"
            )
        exponents.append(max(exponent, LOWEST))
    return tuple(exponents)


def votes(update: Weights) -> Counts:
    """A one for each array in the bucket of its exponent, [arrays * BUCKETS]."""
    ones = np.zeros((len(update), BUCKETS), np.int64)
    ones[np.arange(len(update)), np.asarray(needed(update), np.int64) - LOWEST] = 1
    return ones.reshape(-1)


def learned(total: Counts) -> Exponents:
    """The exponents that hold what everybody voted for."""
    cast = total.reshape(-1, BUCKETS) > 0
    highest = BUCKETS - 1 - cast[:, ::-1].argmax(axis=1)
    return tuple((highest + LOWEST).tolist())


def strain(update: Weights, exponents: Sequence[int]) -> Counts:
    """For each array whether this update goes beyond its range, then for each whether a quarter of it would do."""
    own = np.asarray(needed(update), np.int64)
    given = np.asarray(exponents, np.int64)
    return np.concatenate([own > given, own <= given - 2]).astype(np.int64)


def moved(exponents: Sequence[int], total: Counts, *, members: int) -> Exponents:
    """The next round's exponents, from the sum of so many members' `strain`."""
    beyond, roomy = total.reshape(2, -1)
    steps = np.where(beyond > 0, 1, np.where(roomy == members, -1, 0))
    return tuple(np.clip(np.asarray(exponents, np.int64) + steps, LOWEST, HIGHEST).tolist())
