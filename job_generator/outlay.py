"""What a job will spend of its privacy budget, said before anything starts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from fl_core.errors import JobError
from fl_core.plan import Plan
from fl_core.privacy import accountant
from fl_core.privacy.job import NEIGHBOURS, cost_of, mechanism_of, opening_of, settings_of
from job_generator.problems import InvalidJobError, Problem

BUDGET = ("spec", "privacy", "budget", "epsilon")
STEPS = 40
"""Halvings in the search for a noise multiplier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlay:
    """What all rounds cost, what one costs, how many fit, and which noise multiplier would do for all of them.

    `exact` is False where the size of the model is not known, so that what whole numbers cost beyond the noise is
    left out. `enough` is None where all rounds fit.
    """

    epsilon: float
    first: float
    budget: float
    delta: float
    unit: str
    neighbours: str
    adversary: str
    covers: str
    rounds: int
    fit: int
    enough: float | None
    exact: bool

    @property
    def shortfall(self) -> str:
        """That the budget ends the job early, and what would help; empty where it does not."""
        if self.enough is None and self.fit >= self.rounds:
            return ""
        cure = f"; noiseMultiplier {self.enough:g} would do for all" if self.enough is not None else ""
        return f"the privacy budget ends the job after {self.fit} of {self.rounds} rounds{cure}"

    def document(self) -> dict[str, Any]:
        """The same for programs, in the words of the FLJob's status."""
        row = asdict(self)
        return {"epsilonCovers": row.pop("covers"), "roundsThatFit": row.pop("fit"), **row}


def outlay(plan: Plan, *, dimension: int | None = None) -> Outlay | None:
    """Foretell a job whose model has so many values; None where it has no differential privacy."""
    if plan.privacy is None:
        return None
    own, opening = settings_of(plan), opening_of(plan)
    cost = cost_of(plan, dimension=dimension)
    terms: dict[str, Any] = {"delta": own.delta, "neighbours": NEIGHBOURS}
    fit = accountant.rounds_within(cost, budget=own.epsilon, **terms)
    return Outlay(
        epsilon=accountant.forecast(cost, rounds=min(plan.rounds, fit), **terms) if fit else 0.0,
        first=accountant.forecast(cost, rounds=1, **terms),
        budget=own.epsilon,
        delta=own.delta,
        unit=own.unit,
        neighbours=str(NEIGHBOURS),
        adversary=opening.adversary,
        covers="modelOnly" if own.measured else "everything",
        rounds=plan.rounds,
        fit=fit,
        enough=None if fit >= plan.rounds else _enough(plan, dimension, terms),
        exact=dimension is not None,
    )


def check_budget(plan: Plan, *, dimension: int | None = None) -> Outlay | None:
    """Refuse a budget that not one round fits in; otherwise what the job will spend."""
    expected = outlay(plan, dimension=dimension)
    if expected is None or expected.fit:
        return expected
    wanted = (
        f"spec.privacy.mechanism.noiseMultiplier {expected.enough:.3g} would do for all {plan.rounds} rounds"
        if expected.enough is not None
        else "no noise multiplier would do for all rounds"
    )
    raise InvalidJobError(
        [
            Problem(
                BUDGET,
                f"{expected.budget:g} has room for none of {plan.rounds} rounds: one costs {expected.first:.3g}; "
                f"{wanted}, or expected at least {expected.first:.3g}",
            )
        ]
    )


def _enough(plan: Plan, dimension: int | None, terms: dict[str, Any]) -> float | None:
    """The least noise multiplier with which all rounds fit, to three digits and rounded up."""
    low = high = mechanism_of(plan).noise_multiplier

    def fits(multiplier: float) -> bool:
        try:
            cost = cost_of(with_noise(plan, multiplier), dimension=dimension)
        except JobError:  # no ring has room for so much noise
            return False
        return accountant.forecast(cost, rounds=plan.rounds, **terms) <= settings_of(plan).epsilon

    for _ in range(STEPS):
        if fits(high):
            break
        low, high = high, 2 * high
    else:
        return None
    while high / low > 1 + 1e-3:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if fits(middle) else (middle, high)
    digit = 10.0 ** (math.floor(math.log10(high)) - 2)
    return round(math.ceil(high / digit) * digit, 12)


def with_noise(plan: Plan, multiplier: float) -> Plan:
    """The same job with another noise multiplier, and as much more noise on the votes on its clip norm."""
    own, before = settings_of(plan), mechanism_of(plan).noise_multiplier
    options = {**own.mechanism.options, "noise_multiplier": multiplier}
    changes: dict[str, Any] = {"mechanism": own.mechanism.model_copy(update={"options": options})}
    if own.adaptive_clip is not None:
        noise = own.adaptive_clip.count_noise * multiplier / before
        changes["adaptive_clip"] = own.adaptive_clip.model_copy(update={"count_noise": noise})
    return plan.model_copy(update={"privacy": own.model_copy(update=changes)})
