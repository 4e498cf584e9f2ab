"""The mean of each element without its greatest and its smallest values.

Yin, Chen, Ramchandran and Bartlett, Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, ICML
2018 (https://arxiv.org/abs/1803.01498), definition 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Annotated

import numpy as np
from pydantic import Field

from fl_core.aggregation import Doubles, elementwise
from fl_core.weights import Weights

__all__ = ["TrimmedMean"]


@dataclass(frozen=True, slots=True)
class TrimmedMean:
    """The mean of each element, after a share of the parts has been cut off at either end."""

    hostile: Annotated[int, Field(ge=0, le=100_000, description="How many workers may be hostile.")]
    trim: Annotated[
        float,
        Field(
            gt=0, lt=0.5, description="The share of the parts that is cut off at either end, rounded down."
        ),
    ]

    @property
    def fewest(self) -> int:
        """As many as it takes for the share to be the number of the hostile."""
        return max(1, ceil(self.hostile / Fraction(str(self.trim))))

    def reduce(self, parts: Sequence[Weights]) -> Weights:
        """The mean of what is left of each element."""
        cut = int(len(parts) * Fraction(str(self.trim)))

        def inner(values: Doubles) -> Doubles:
            ordered = np.sort(values, axis=0)[cut : len(values) - cut]
            mean: Doubles = np.add.reduce(ordered, axis=0) / len(ordered)
            return mean

        return elementwise(parts, inner)
