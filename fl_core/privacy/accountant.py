"""Epsilon from costs: their Renyi divergences are added up and turned into (epsilon, delta).

The divergences are in `costs`, the conversion is proposition 12 of Canonne, Kamath, Steinke, The Discrete Gaussian for
Differential Privacy (NeurIPS 2020). The tests hold both against Google's dp-accounting and against integrals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fl_core.errors import SpecError
from fl_core.privacy.costs import Cost, Neighbours, Unit

Doubles = npt.NDArray[np.float64]

ORDERS = (
    *(1 + tenth / 10 for tenth in range(1, 100)),
    *(float(order) for order in range(11, 64)),
    *(float(round(64 * 2 ** (step / 4))) for step in range(25)),
)
"""Orders of the Renyi divergence, 1.1 to 4096: the best for epsilon from some hundredths to some hundreds is near."""

MOST_ROUNDS = 1 << 40


@dataclass(frozen=True, slots=True)
class Guarantee:
    """Epsilon with all that it depends on: without the rest the number says nothing."""

    epsilon: float
    delta: float
    unit: Unit
    neighbours: Neighbours
    adversary: str

    def __str__(self) -> str:
        return (
            f"epsilon {self.epsilon:.3g} at delta {self.delta:g} for data sets that differ by {self.neighbours} "
            f"{self.unit}, against {self.adversary}"
        )


def epsilon(costs: Iterable[Cost], *, delta: float, neighbours: Neighbours) -> float:
    """The epsilon of all these releases together."""
    total = np.zeros(len(ORDERS))
    for cost, times in Counter(costs).items():
        total += times * curve(cost, neighbours)
    return convert(total, delta=delta)


def rounds_within(
    cost: Sequence[Cost], *, budget: float, delta: float, neighbours: Neighbours, spent: Iterable[Cost] = ()
) -> int:
    """How many rounds of this cost fit into the budget (an epsilon) beside what is spent already."""
    before, each = _sum(spent, neighbours), _sum(cost, neighbours)

    def fits(rounds: int) -> bool:
        return convert(before + rounds * each, delta=delta) <= budget

    if not fits(1):
        return 0
    most = 1
    while most < MOST_ROUNDS and fits(2 * most):
        most *= 2
    low, high = most, 2 * most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def forecast(cost: Sequence[Cost], *, rounds: int, delta: float, neighbours: Neighbours) -> float:
    """The epsilon of a whole job whose every round costs this."""
    return convert(rounds * _sum(cost, neighbours), delta=delta)


def convert(divergences: Doubles, *, delta: float) -> float:
    """The least epsilon that divergences at `ORDERS` prove for this delta."""
    if not 0 < delta < 1:
        raise SpecError(f"privacy.budget.delta is {delta}; it must be between 0 and 1, 1e-5 for instance")
    if np.isnan(divergences).any() or (divergences < 0).any():
        raise SpecError(
            "privacy: a cost has no divergence that float64 can hold; its parameters are too extreme"
        )
    if not divergences.any():
        return 0.0
    orders = np.array(ORDERS)
    proven = divergences + np.log1p(-1 / orders) - np.log(delta * orders) / (orders - 1)
    return max(0.0, float(proven.min()))


@lru_cache(maxsize=256)
def curve(cost: Cost, neighbours: Neighbours) -> Doubles:
    """The Renyi divergences of one release at `ORDERS`; not to be written to."""
    divergences = np.array([cost.divergence(order, neighbours) for order in ORDERS])
    divergences.flags.writeable = False
    return divergences


def _sum(costs: Iterable[Cost], neighbours: Neighbours) -> Doubles:
    total = np.zeros(len(ORDERS))
    for cost in costs:
        total += curve(cost, neighbours)
    return total
