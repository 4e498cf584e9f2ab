"""Clipping: no worker, and no example, moves the model by more than a stated length.

The length of an update is its L2 norm over all arrays together, and is measured in float64 whatever they are. What
has no finite length counts as zeros: to refuse it would say of the data, without noise, that there is something so.
`AdaptiveClip` moves the clip norm towards a quantile of the norms: Andrew, Thakkar, McMahan, Ramaswamy,
Differentially Private Learning with Adaptive Clipping, NeurIPS 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from fl_core.errors import SpecError
from fl_core.weights import Array, Weights

Doubles = npt.NDArray[np.float64]

MARGIN = 2.0**-24
"""A clipped update stays so far below the norm, more than float64 errs in a sum of 2^29 squares."""


def norm(update: Weights) -> float:
    """The L2 norm over all arrays; NaN or infinite where a value is, or where the squares leave float64."""
    return math.sqrt(sum(_squares(array.reshape(1, -1))[0] for array in update.values()))


def clip(update: Weights, *, most: float) -> tuple[dict[str, Doubles], float]:
    """The update in float64, shortened where it is longer than `most`, and how long it was before.

    One without a finite length counts as zeros, of length 0.
    """
    length = norm(update)
    if not math.isfinite(length):
        update, length = {name: np.zeros(array.shape) for name, array in update.items()}, 0.0
    factor = shortening(np.array(length), most=most)
    return {name: np.multiply(array, factor, dtype=np.float64) for name, array in update.items()}, length


def shortening(lengths: Doubles, *, most: float) -> Doubles:
    """By what each length is to be multiplied so that it is at most `most`: 1 where it is already."""
    if not (math.isfinite(most) and most > 0):
        raise SpecError(f"privacy: the clip norm is {most}; it must be a positive number")
    allowed = most * (1 - MARGIN)
    factors: Doubles = allowed / np.maximum(lengths, allowed)
    return factors


def norms_of_each(gradients: Weights) -> Doubles:
    """The L2 norm of each example's gradient over all arrays, which are of shape [batch, ...]; not finite where
    a value is not.
    """
    squares = [_squares(_by_example(array)) for array in gradients.values()]
    lengths: Doubles = np.sqrt(np.sum(squares, axis=0))
    return lengths


def clipped_sum(gradients: Weights, *, most: float) -> dict[str, Doubles]:
    """The sum over the batch of every example's gradient, each shortened to at most `most`; zeros for no example.

    A gradient without a finite length counts as zeros, too.
    """
    lengths = norms_of_each(gradients)
    if not (counts := np.isfinite(lengths)).all():
        gradients, lengths = {name: array[counts] for name, array in gradients.items()}, lengths[counts]
    factors = shortening(lengths, most=most)
    return {
        name: (factors @ _by_example(array).astype(np.float64)).reshape(array.shape[1:])
        for name, array in gradients.items()
    }


LEAST, MOST = 2.0**-100, 2.0**100
"""Between them a clip norm moves: far beyond any update, and far from what float64 cannot hold."""


@dataclass(frozen=True, slots=True)
class AdaptiveClip:
    """The clip norm follows a quantile of the updates' norms, by one noisy count per round.

    Each worker votes +1 when its update is not longer than the clip norm C, else -1. With b the share of +1 among
    the cohort, C becomes C * exp(-learning_rate * (b - quantile)). A vote changes the sum by at most 1 when a worker
    is added or removed, half of what bits 0 and 1 count twice would; `count_noise` is sigma_b of the paper, the
    standard deviation of the noise on the count of +1, so the sum of votes gets 2 * sigma_b.
    """

    quantile: Annotated[float, Field(ge=0, le=1, description="Of the updates' norms; 0.5 is the median.")]
    learning_rate: Annotated[
        float, Field(gt=0, le=1, description="Of the step of the norm's logarithm; the paper has 0.2.")
    ]
    count_noise: Annotated[float, Field(gt=0, description="Standard deviation of the noise on the count.")]

    @property
    def votes_multiplier(self) -> float:
        """The noise multiplier of the sum of votes, whose sensitivity is 1."""
        return 2 * self.count_noise

    @property
    def votes_variance(self) -> int:
        """The variance of the noise on the sum of votes, a whole number, rounded up."""
        return math.ceil(self.votes_multiplier**2)

    def vote(self, length: float, *, clip_norm: float) -> int:
        """What a worker adds to the sum of votes."""
        return 1 if length <= clip_norm else -1

    def step(self, clip_norm: float, votes: int, *, cohort: int) -> float:
        """The next clip norm from the noisy sum of votes; `cohort` is the fixed denominator."""
        share = min(max((votes / cohort + 1) / 2, 0.0), 1.0)
        moved = clip_norm * math.exp(-self.learning_rate * (share - self.quantile))
        return min(max(moved, LEAST), MOST)

    def update_multiplier(self, noise_multiplier: float) -> float:
        """The noise multiplier of the update, so that update and votes together cost what one release would.

        z_delta = (z^-2 - (2 sigma_b)^-2)^(-1/2), which needs sigma_b > z / 2.
        """
        if not self.count_noise > noise_multiplier / 2:
            raise SpecError(
                f"privacy: the count's noise is {self.count_noise:g}; it must be more than half of the noise "
                f"multiplier {noise_multiplier:g}, that is more than {noise_multiplier / 2:g}: "
                "the count alone would cost more"
            )
        return float((noise_multiplier**-2 - self.votes_multiplier**-2) ** -0.5)


def _squares(rows: Array) -> Doubles:
    """The sum of squares of each row, in float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        sums: Doubles = np.einsum("ij,ij->i", rows, rows, dtype=np.float64, casting="same_kind")
    return sums


def _by_example(array: Array) -> Array:
    return array.reshape(len(array), math.prod(array.shape[1:]))
