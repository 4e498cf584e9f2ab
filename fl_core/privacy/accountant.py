"""Epsilon from costs: their Renyi divergences are added up and turned into (epsilon, delta) by dp-accounting.

The library (Google's, Apache-2.0) knows the sampled Gaussian and the conversion (Canonne, Kamath, Steinke 2020,
proposition 12); what it lacks, the Skellam law, is in `costs`. It is needed where epsilon is computed, at the server
and in `fl-submit`, and comes with the extra `privacy`; workers never load it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from fl_core.errors import JobError, SpecError
from fl_core.privacy.costs import Cost, Neighbours, SampledGaussianCost, Unit

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
    return float(_library("rdp").compute_epsilon(ORDERS, divergences, delta)[0])


@lru_cache(maxsize=256)
def curve(cost: Cost, neighbours: Neighbours) -> Doubles:
    """The Renyi divergences of one release at `ORDERS`; not to be written to."""
    if isinstance(cost, SampledGaussianCost):
        divergences = _sampled(cost, neighbours)
    else:
        divergences = np.array([cost.divergence(order, neighbours) for order in ORDERS])
    divergences.flags.writeable = False
    return divergences


def _sampled(cost: SampledGaussianCost, neighbours: Neighbours) -> Doubles:
    if neighbours is not Neighbours.ADD_OR_REMOVE:
        raise SpecError(
            f"privacy: sampled examples are accounted for data sets that differ by {Neighbours.ADD_OR_REMOVE} example; "
            f"{neighbours} is not known for them"
        )
    events = _library("dp_event")
    accountant = _library("rdp").RdpAccountant(ORDERS)
    step = events.GaussianDpEvent(cost.noise_multiplier)
    accountant.compose(events.PoissonSampledDpEvent(cost.rate, step), cost.steps)
    divergences: Doubles = accountant.rdp
    return divergences


def _sum(costs: Iterable[Cost], neighbours: Neighbours) -> Doubles:
    total = np.zeros(len(ORDERS))
    for cost in costs:
        total += curve(cost, neighbours)
    return total


def _library(module: str) -> Any:  # noqa: ANN401 - a module without types
    """One of dp_accounting's, found when epsilon is asked for: it takes a second to load, and workers lack it."""
    try:
        return import_module(f"dp_accounting.{module}")
    except ImportError as error:
        raise JobError(
            f"epsilon is computed by the package dp-accounting, which cannot be loaded ({error}); "
            "install it with: pip install 'fljob[privacy]'"
        ) from error
