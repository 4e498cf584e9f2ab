"""What a release costs, as plain numbers that the ledger keeps and the accountant adds up.

A cost is a bound on Renyi divergences: for every order a > 1 it says how far apart the laws of what is released can
be, in D_a, for two neighbouring data sets (Mironov, Renyi Differential Privacy, CSF 2017). Such bounds add up over
releases, also where each depends on those before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from fl_core.errors import SpecError

Unit = Literal["worker", "example"]
"""Whose presence is hidden: a worker with all its data, or one example of one worker."""


class Neighbours(StrEnum):
    """Which two data sets must look alike."""

    ADD_OR_REMOVE = "add or remove one"
    """One contributes, or contributes zeros instead; the common choice, and the library's."""

    REPLACE = "replace one"
    """One contributes something else; every sensitivity is doubled."""

    @property
    def factor(self) -> int:
        """How often the sensitivity of adding or removing one counts."""
        return 2 if self is Neighbours.REPLACE else 1


Multiplier = Annotated[float, Field(ge=1e-3, le=1e9)]
"""Standard deviation of noise over sensitivity; with less an epsilon is above 100,000, and soon beyond float64."""


class _Cost(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class GaussianCost(_Cost):
    """Noise of the Gaussian law, normal or discrete, on a sum of L2 sensitivity 1.

    Both laws have D_a = a / (2 z^2) at most. For whole numbers that is Theorem 14 of Canonne, Kamath, Steinke 2020,
    which holds for vectors of any dimension with independent noise of one variance.
    """

    kind: Literal["gaussian"] = "gaussian"
    noise_multiplier: Multiplier
    """Standard deviation over sensitivity."""

    def divergence(self, order: float, neighbours: Neighbours) -> float:
        """The greatest D_order."""
        return order / 2 * (neighbours.factor / self.noise_multiplier) ** 2


class SkellamCost(_Cost):
    """Skellam noise on a sum of whole numbers.

    Agarwal, Kairouz, Liu, The Skellam Mechanism for Differentially Private Federated Learning, NeurIPS 2021. For one
    whole number of sensitivity D, noise of variance m and whole orders a > 1 (Theorem 3.5)

        D_a  <=  a D^2 / (2 m)  +  min( ((2a - 1) D^2 + 6 |D|) / (4 m^2),  3 |D| / (2 m) ).

    From there to a vector with independent noise: D_a of products of laws is the sum of their D_a, and a sum of
    minima is at most the minimum of the sums. The right side is linear in D^2 and |D|, which sum to at most the
    squared L2 and the L1 sensitivity, so these take the places of D^2 and |D| (Corollary 3.6). Both are whole
    numbers after conditional rounding: see `fl_core.privacy.rounding.Sensitivity`.

    The noise is the sum of the workers' shares, and a sum of Skellams is Skellam with the sum of the variances. A
    larger variance than `variance` can only cost less: it is this noise with further, independent noise added.
    """

    kind: Literal["skellam"] = "skellam"
    variance: Annotated[float, Field(gt=0)]
    """What the honest survivors' shares sum up to, in squared units."""

    l1: Annotated[int, Field(gt=0)]
    l2_squared: Annotated[int, Field(gt=0)]

    def divergence(self, order: float, neighbours: Neighbours) -> float:
        """The greatest D_order."""
        return _by_chords(order, lambda whole: self._at(whole, neighbours.factor))

    def _at(self, order: int, factor: int) -> float:
        one, two, variance = factor * self.l1, factor**2 * self.l2_squared, self.variance
        fine = ((2 * order - 1) * two + 6 * one) / (4 * variance**2)
        return order * two / (2 * variance) + min(fine, 3 * one / (2 * variance))


class SampledGaussianCost(_Cost):
    """Gaussian noise on sums over examples, each of which is in a sum with probability `rate` and nobody knows.

    The noise of DP-SGD. For whole orders a > 1 (Mironov, Talwar, Zhang, Renyi Differential Privacy of the Sampled
    Gaussian Mechanism, 2019, section 3.3), with q the rate and z the noise multiplier, one step has

        (a - 1) D_a  =  log sum over k = 0..a of  C(a, k) (1 - q)^(a - k) q^k exp((k^2 - k) / (2 z^2)).
    """

    kind: Literal["sampled_gaussian"] = "sampled_gaussian"
    noise_multiplier: Multiplier
    rate: Annotated[float, Field(gt=0, le=1)]
    steps: Annotated[int, Field(ge=1)]

    def divergence(self, order: float, neighbours: Neighbours) -> float:
        """The greatest D_order of all steps."""
        if neighbours is not Neighbours.ADD_OR_REMOVE:
            raise SpecError(
                "privacy: sampled examples are accounted for data sets that differ by "
                f"{Neighbours.ADD_OR_REMOVE} example; {neighbours} is not known for them"
            )
        return self.steps * _by_chords(order, self._at)

    def _at(self, order: int) -> float:
        if self.rate == 1:
            return order / (2 * self.noise_multiplier**2)
        k = np.arange(order + 1)
        factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, order + 1)))])
        chosen = factorials[order] - factorials - factorials[::-1]
        drawn = k * math.log(self.rate) + (order - k) * math.log1p(-self.rate)
        shifted = (k * k - k) / (2 * self.noise_multiplier**2)
        total = float(np.logaddexp.reduce(chosen + drawn + shifted))
        return max(total, 0.0) / (order - 1)  # in this order NaN stays NaN, which `convert` refuses


def _by_chords(order: float, at: Callable[[int], float]) -> float:
    """D_order, or a bound on it, from those of whole orders.

    (a - 1) D_a is the cumulant generating function of the privacy loss, hence convex in a and 0 at a = 1: between two
    whole orders the chord is a bound.
    """
    lower = math.floor(order)
    if lower == order:
        return at(lower)
    below = (lower - 1) * at(lower) if lower > 1 else 0.0
    above = lower * at(lower + 1)
    return (below + (order - lower) * (above - below)) / (order - 1)


Cost = Annotated[GaussianCost | SkellamCost | SampledGaussianCost, Field(discriminator="kind")]
"""Any of them, told apart by `kind`."""
