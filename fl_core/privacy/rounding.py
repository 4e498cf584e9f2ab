"""Conditional stochastic rounding: an update becomes whole numbers and is still of bounded length.

Kairouz, Liu, Steinke, The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure Aggregation,
ICML 2021, section 4. An update of norm at most `c` is multiplied so that `c` is `units`, and each value goes up or
down to a whole number with the probabilities that keep its mean. That may lengthen the vector, in dimension d to
units + sqrt(d) at worst. The rounding is therefore repeated until the squared norm is at most

    units^2 + d / 4 + sqrt(2 ln(1 / beta)) * (units + sqrt(d) / 2),        beta = e^(-1/2),

which one try in 1 / (1 - beta), 2.5, meets at worst and nearly every one in practice. The norm of whole numbers is
checked in whole numbers, so the sensitivity holds exactly, whatever float64 did before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fl_core.errors import SpecError
from fl_core.privacy.stream import BLOCK, Stream
from fl_core.privacy.table import Integers
from fl_core.weights import Array, Weights

TRIES = 64
"""Tries before all values are rounded towards zero, which no vector of norm `units` needs but once in 10^13."""

LOG_INVERSE_BETA = 0.5
MOST_UNITS = 1 << 30
ENOUGH = 5
"""At units = ENOUGH * sqrt(d) rounding adds less than a hundredth to the sensitivity, for d from 1000 on."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """By how much one worker changes the sum at most: L1 norm and squared L2 norm, in whole units."""

    l1: int
    l2_squared: int

    @classmethod
    def of(cls, *, units: int, dimension: int) -> Sensitivity:
        """What conditional rounding leaves of a vector of norm at most `units` with so many values.

        A vector of whole numbers has an L1 norm of at most its squared L2 norm, as |k| <= k^2, and of at most
        sqrt(d) times its L2 norm (Cauchy and Schwarz).
        """
        if not 1 <= units <= MOST_UNITS or dimension < 1:
            raise SpecError(
                f"privacy: an update of {dimension} values with a norm of {units} units cannot be rounded; "
                f"it needs at least one value and from 1 to {MOST_UNITS} units"
            )
        root = math.sqrt(dimension)
        likely = units**2 + dimension / 4 + math.sqrt(2 * LOG_INVERSE_BETA) * (units + root / 2)
        squared = math.floor(min(likely, (units + root) ** 2))
        return cls(min(math.isqrt(dimension * squared), squared), squared)

    @property
    def l2(self) -> float:
        """The L2 norm."""
        return math.sqrt(self.l2_squared)


def resolution(*, dimension: int, cohort: int, noise_multiplier: float, bits: int) -> int:
    """The units per clip norm for a ring of so many bits: as fine as pays, and so that the sum fits.

    A value of the sum is at most `cohort` norms and seven standard deviations of the noise. Beyond
    ENOUGH * sqrt(dimension) finer units improve nothing.
    """
    room = 1 << (bits - 1)
    units = min(math.ceil(ENOUGH * math.sqrt(dimension)), MOST_UNITS)
    while units and not _fits(units, dimension=dimension, terms=cohort + 7 * noise_multiplier, room=room):
        units = units * 7 // 8
    if not units:
        raise SpecError(
            f"privacy: {cohort} workers' sum of {dimension} values with noise multiplier {noise_multiplier:g} does not "
            f"fit into {bits} bits at any resolution: use more bits, fewer workers, or less noise"
        )
    return units


def _fits(units: int, *, dimension: int, terms: float, room: int) -> bool:
    return Sensitivity.of(units=units, dimension=dimension).l2 * terms < room


def rounded(update: Weights, *, scale: float, most: Sensitivity, stream: Stream) -> dict[str, Integers]:
    """The update times `scale` in whole numbers whose squared norm is at most `most.l2_squared`, exactly.

    The update must be clipped: `scale` times its norm is at most the units that `most` was made for.
    """
    for _ in range(TRIES):
        tried = {name: _stochastic(array, scale, stream) for name, array in update.items()}
        if squared_norm(tried) <= most.l2_squared:
            return tried
    short = {
        name: np.trunc(np.multiply(array, scale, dtype=np.float64)).astype(np.int64)
        for name, array in update.items()
    }
    if squared_norm(short) > most.l2_squared:
        raise SpecError(
            f"privacy: an update has a norm of {math.sqrt(squared_norm(short)):.6g} units before rounding, and at most "
            f"{most.l2:.6g} after it is allowed: it was not clipped"
        )
    return short


def squared_norm(update: Weights) -> int:
    """The sum of squares of whole numbers: exact below 2^62, where nothing that is allowed lies beyond."""
    roughly = sum(float(np.einsum("i,i->", flat, flat, dtype=np.float64)) for flat in _flat(update))
    if roughly >= 2.0**62:
        return int(min(roughly, 2.0**120))
    return sum(int(np.dot(flat, flat)) for flat in _flat(update))


def _flat(update: Weights) -> list[Array]:
    return [array.reshape(-1) for array in update.values()]


def _stochastic(array: Array, scale: float, stream: Stream) -> Integers:
    """Each value times scale, up or down to a whole number; its mean is the value, to 2^-32."""
    flat = array.reshape(-1)
    result = np.empty(flat.size, np.int64)
    for start in range(0, flat.size, BLOCK):
        part = np.multiply(flat[start : start + BLOCK], scale, dtype=np.float64)
        floor = np.floor(part)
        coins = stream.words(-(-part.size // 2)).view(np.uint32)[: part.size]
        result[start : start + part.size] = floor + (coins * 2.0**-32 < part - floor)
    return result.reshape(array.shape)
