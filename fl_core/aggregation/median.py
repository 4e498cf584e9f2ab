"""The median of each element.

Yin, Chen, Ramchandran and Bartlett, Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, ICML
2018 (https://arxiv.org/abs/1803.01498), definition 1. Of an even number it is the mean of the two in the middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from fl_core.aggregation import Doubles, elementwise
from fl_core.weights import Weights

__all__ = ["Median"]


@dataclass(frozen=True, slots=True)
class Median:
    """The median of each element; good while more than half of the parts are honest."""

    hostile: Annotated[int, Field(ge=0, le=100_000, description="How many workers may be hostile.")]

    @property
    def fewest(self) -> int:
        """One more than twice the hostile, so that the middle lies among the honest."""
        return 2 * self.hostile + 1

    def reduce(self, parts: Sequence[Weights]) -> Weights:
        """The middle of each element."""
        return elementwise(parts, _middle)


def _middle(values: Doubles) -> Doubles:
    ordered: Doubles = np.sort(values, axis=0)
    lower, upper = ordered[(len(values) - 1) // 2], ordered[len(values) // 2]
    middle: Doubles = (lower + upper) / 2
    return middle
