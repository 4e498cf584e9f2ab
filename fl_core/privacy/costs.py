"""What a release costs, as plain numbers that the ledger keeps and the accountant adds up.

A cost is a bound on Renyi divergences: for every order a > 1 it says how far apart the laws of what is released can
be, in D_a, for two neighbouring data sets (Mironov, Renyi Differential Privacy, CSF 2017). Such bounds add up over
releases, also where each depends on those before it.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

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


class _Cost(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class GaussianCost(_Cost):
    """Noise of the Gaussian law, normal or discrete, on a sum of L2 sensitivity 1.

    Both laws have D_a = a / (2 z^2) at most. For whole numbers that is Theorem 14 of Canonne, Kamath, Steinke 2020,
    which holds for vectors of any dimension with independent noise of one variance.
    """

    kind: Literal["gaussian"] = "gaussian"
    noise_multiplier: Annotated[float, Field(gt=0)]
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

    Between whole orders: (a - 1) D_a is the cumulant generating function of the privacy loss, hence convex in a and 0
    at a = 1, so the chord between two bounds is a bound.

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
        lower = math.floor(order)
        if lower == order:
            return self._at(lower, neighbours.factor)
        below = (lower - 1) * self._at(lower, neighbours.factor) if lower > 1 else 0.0
        above = lower * self._at(lower + 1, neighbours.factor)
        return (below + (order - lower) * (above - below)) / (order - 1)

    def _at(self, order: int, factor: int) -> float:
        one, two, variance = factor * self.l1, factor**2 * self.l2_squared, self.variance
        fine = ((2 * order - 1) * two + 6 * one) / (4 * variance**2)
        return order * two / (2 * variance) + min(fine, 3 * one / (2 * variance))


class SampledGaussianCost(_Cost):
    """Gaussian noise on sums over examples, each of which is in a sum with probability `rate` and nobody knows.

    The sampled Gaussian mechanism of DP-SGD (Mironov, Talwar, Zhang 2019); its divergences are the library's.
    """

    kind: Literal["sampled_gaussian"] = "sampled_gaussian"
    noise_multiplier: Annotated[float, Field(gt=0)]
    rate: Annotated[float, Field(gt=0, le=1)]
    steps: Annotated[int, Field(ge=1)]


Cost = Annotated[GaussianCost | SkellamCost | SampledGaussianCost, Field(discriminator="kind")]
"""Any of them, told apart by `kind`."""
