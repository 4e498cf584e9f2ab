"""The weighted mean."""

from __future__ import annotations

from dataclasses import dataclass

from fl_core.aggregation import Sum
from fl_core.weights import Weights

__all__ = ["Mean"]


@dataclass(frozen=True, slots=True)
class Mean:
    """Sum over weight; the same to the bit in whatever order the updates came."""

    def combine(self, total: Sum) -> Weights:
        """Divide the exact sum by the total weight."""
        return total.mean()
