"""Noise: whole numbers drawn exactly from their law, and the normal law for what is no whole number.

Floating-point noise leaks through its low bits (Mironov, On Significance of the Least Significant Bits for
Differential Privacy, CCS 2012). What is summed as whole numbers therefore gets whole numbers as noise, drawn from
the discrete Gaussian or the Skellam law themselves and from no approximation of them; where a comparison with a real
number is too close for float64, it is decided with more digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fl_core.errors import SpecError
from fl_core.privacy.stream import BLOCK, Stream
from fl_core.privacy.table import Integers, Table
from fl_core.weights import Array

Doubles = npt.NDArray[np.float64]

GRAIN = 1 << 10
"""A Skellam variance is a whole multiple of 1 / GRAIN, rounded up, so that it is known exactly."""

LARGEST_TABLE = 1 << 26
"""The greatest variance that is drawn from one table, of 4 MB then; the sum of several draws has the same law."""

MOST_DRAWS = 64
LARGEST_GAUSSIAN = 1 << 50
"""Variance up to which every product of whole numbers in the rejection fits into 63 bits."""

CLOSE = 2.0**-40
"""Far more than what float64 may be wrong by below; a comparison that is closer is decided exactly."""

STEPS = 20
"""Of the grid for normal noise: a million per standard deviation; float64 is another 2^30 times finer."""

_NEGLIGIBLE = 140
"""Values less likely than 2^-140 of the likeliest are left out of a table: 13.9 standard deviations and more."""

_DIGITS = Context(prec=80)


def share(variance: float, honest: int) -> float:
    """The variance that each worker adds, so that the noise of `honest` workers is of `variance` at least.

    Workers who drop out take their noise with them, and corrupt ones can subtract theirs: with threshold t and c
    corrupt workers, t - c honest survivors are sure.
    """
    if honest < 1:
        raise SpecError(f"privacy: {honest} honest survivors are sure; noise needs at least 1 (t > c)")
    return math.ceil(Fraction(variance) / honest * GRAIN) / GRAIN


# -- Skellam


def skellam(size: int, *, variance: float, stream: Stream) -> Integers:
    """Draws from the Skellam law with mean 0: the difference of two Poissons of mean `variance` / 2 each.

    They are drawn from the law of the difference itself, which takes one word instead of two Poissons. A variance
    beyond `LARGEST_TABLE` is split evenly over several draws: sums of Skellams are Skellam.
    """
    if not 0 < variance <= LARGEST_TABLE * MOST_DRAWS:
        raise SpecError(
            f"privacy: a Skellam variance of {variance:g} was asked for; it must be positive and at most "
            f"{LARGEST_TABLE * MOST_DRAWS:g}: use fewer units per clip norm"
        )
    draws = max(1, math.ceil(variance / LARGEST_TABLE))
    table = _skellam_table(math.ceil(Fraction(variance) / draws * GRAIN))
    drawn = table.draw(size, stream)
    for _ in range(draws - 1):
        drawn += table.draw(size, stream)
    return drawn


@lru_cache(maxsize=2)
def _skellam_table(grains: int) -> Table:
    """P(k) is proportional to the Bessel function I_k(variance), and decreases with |k|."""
    half = bessel(grains)
    return Table.of([*half[:0:-1], *half], first=1 - len(half))


def bessel(grains: int) -> list[int]:
    """I_0(x), I_1(x), ... for x = `grains` / `GRAIN`, all times one common factor, as far as not negligible.

    Miller's algorithm: I_(k-1) = I_(k+1) + (2k / x) I_k from far outside inwards, where the error of the arbitrary
    start dies out twice as fast as the values grow; in whole numbers, with 200 bits or more throughout.
    """
    order = 8
    while _likelihood_bits(order, grains / GRAIN) < 2 * _NEGLIGIBLE:
        order += order // 4
    values = [0, 1 << 200]
    for k in range(order, 0, -1):
        values.append(values[-2] + 2 * k * GRAIN * values[-1] // grains)
    values.reverse()
    least = values[0] >> _NEGLIGIBLE
    return [value >> 200 for value in values if value > least]


def _likelihood_bits(order: int, x: float) -> float:
    """About -log2(I_order(x) / I_0(x)), never too great (the Debye expansion without its falling factor)."""
    return (order * math.asinh(order / x) - order**2 / (math.hypot(order, x) + x)) / math.log(2)


# -- discrete Gaussian


def discrete_gaussian(size: int, *, variance: int, stream: Stream) -> Integers:
    """Draws k with probability proportional to exp(-k^2 / (2 variance)).

    Canonne, Kamath, Steinke, The Discrete Gaussian for Differential Privacy, NeurIPS 2020, algorithms 2 and 3: a
    discrete Laplace proposal of scale t = floor(sqrt(variance)) + 1, whose two coins are thrown as one.
    """
    if not 1 <= variance <= LARGEST_GAUSSIAN:
        raise SpecError(
            f"privacy: a discrete Gaussian of variance {variance:g} was asked for; it must be from 1 to "
            f"{LARGEST_GAUSSIAN:g}: use fewer units per clip norm"
        )
    drawn, done = np.empty(size, np.int64), 0
    while done < size:
        some = _accepted(variance, stream, proposals=min(BLOCK, 3 * (size - done) + 8))[: size - done]
        drawn[done : done + some.size] = some
        done += some.size
    return drawn


def _accepted(variance: int, stream: Stream, *, proposals: int) -> Integers:
    """Those of a block of proposals that the rejection lets pass."""
    scale = math.isqrt(variance) + 1
    low = uniform(proposals, below=scale, stream=stream)
    high = _geometric(low.size, stream)
    magnitude = low + scale * high
    negative = (stream.words(low.size) & np.uint64(1)).astype(bool)
    distance = (magnitude * scale - variance).astype(np.float64)
    exponent = low / scale + distance * distance / (2.0 * variance * scale * scale)

    def exact(index: int) -> Fraction:
        far = int(magnitude[index]) * scale - variance
        return Fraction(int(low[index]), scale) + Fraction(far * far, 2 * variance * scale * scale)

    kept = happens(exponent, exact, stream) & ~(negative & (magnitude == 0))
    accepted: Integers = np.where(negative, -magnitude, magnitude)[kept]
    return accepted


def uniform(count: int, *, below: int, stream: Stream) -> Integers:
    """At most `count` whole numbers from 0 to `below` - 1; words that would favour some of them are left out."""
    words = stream.words(count)
    fair = (1 << 64) // below * below
    if fair < 1 << 64:
        words = words[words < np.uint64(fair)]
    places: Integers = (words % np.uint64(below)).astype(np.int64)
    return places


def happens(exponent: Doubles, exact: Callable[[int], Fraction], stream: Stream) -> npt.NDArray[np.bool_]:
    """For each element independently, true with probability exp(-exponent).

    `exact(index)` is the exponent as a fraction: it is asked where float64 cannot tell.
    """
    words = stream.words(exponent.size).copy()
    margin = np.exp(-exponent) - words * 2.0**-64
    result: npt.NDArray[np.bool_] = margin > 0
    for index in np.flatnonzero(np.abs(margin) <= CLOSE):
        result[index] = _below_exponential(int(words[index]), exact(int(index)), stream)
    return result


def _geometric(count: int, stream: Stream) -> Integers:
    """How often in a row an event of probability 1/e happens: v with probability (1 - 1/e) e^-v."""
    words = stream.words(count).copy()
    logarithm = -np.log((words + np.float64(0.5)) * 2.0**-64)
    result: Integers = logarithm.astype(np.int64)
    near = np.abs(logarithm - np.rint(logarithm)) <= CLOSE * np.exp(logarithm)
    for index in np.flatnonzero(near & (logarithm > 0.5)):  # noqa: PLR2004 - nearest to 1 or more
        result[index] = _geometric_exactly(int(words[index]), stream)
    return result


def _geometric_exactly(word: int, stream: Stream) -> int:
    bits = (word << 128) | stream.bits(128)
    times = 0
    while bits < _exponential(Fraction(times + 1)):
        times += 1
    return times


def _below_exponential(word: int, exponent: Fraction, stream: Stream) -> bool:
    """Whether a uniform number that begins with the 64 bits of `word` is below exp(-exponent)."""
    return ((word << 128) | stream.bits(128)) < _exponential(exponent)


def _exponential(exponent: Fraction) -> int:
    """exp(-exponent) * 2^192, to the last few bits."""
    power = _DIGITS.divide(Decimal(-exponent.numerator), Decimal(exponent.denominator))
    return int(_DIGITS.multiply(_DIGITS.exp(power), Decimal(1 << 192)))


# -- normal


def gaussian(size: int, *, stream: Stream) -> Doubles:
    """Draws from the normal law with variance 1 (Box and Muller 1958), cut off beyond 9.4, which 2^-64 are."""
    drawn = np.empty(size, np.float64)
    for start in range(0, size, BLOCK):
        part = drawn[start : start + BLOCK]
        pairs = -(-part.size // 2)
        words = stream.words(2 * pairs)
        radius = np.sqrt(-2.0 * np.log((words[:pairs] + np.float64(1)) * 2.0**-64))
        angle = words[pairs:] * (2.0 * math.pi * 2.0**-64)
        part[:pairs] = radius * np.cos(angle)
        part[pairs:] = (radius * np.sin(angle))[: part.size - pairs]
    return drawn


def noised(values: Array, *, deviation: float, stream: Stream) -> Doubles:
    """The values plus normal noise of this standard deviation, on a grid of 2^-`STEPS` deviations or a bit less.

    The grid does not depend on the values, so the low bits of floating-point sums, which could tell one value from
    another (Mironov 2012), are gone.
    """
    grid = 2.0 ** (math.floor(math.log2(deviation)) - STEPS)
    noise = gaussian(values.size, stream=stream).reshape(values.shape)
    noise *= deviation
    noise += values
    noise /= grid
    np.rint(noise, out=noise)
    noise *= grid
    return noise
