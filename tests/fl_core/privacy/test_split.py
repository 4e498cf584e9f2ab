"""The noise of a whole job's sum, from its plan: exactly the honest survivors that a sum needs make all of it.

Splits that are wrong in one place each must be caught by the same measurement.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from fl_core.extensions import Extension
from fl_core.plan import Plan, Privacy, SecureAggregation
from fl_core.privacy import job
from fl_core.privacy.costs import SkellamCost
from fl_core.privacy.job import cost_of, mechanism_at, release_of
from fl_core.privacy.mechanisms import skellam
from fl_core.privacy.stream import Random
from fl_core.weights import ArraySpec, Manifest

Chances = Callable[[int], Random]
PlanOf = Callable[..., Plan]

VALUES = 30_000
SHAPE = Manifest((ArraySpec("w", "float32", (VALUES,)),))
PER_ROUND, MINIMUM, CORRUPT = 9, 7, 2


@pytest.fixture
def plan(plan_of: PlanOf) -> Plan:
    mechanism = Extension(name="skellam", options={"clip": 1.0, "noise_multiplier": 1.5})
    privacy = Privacy(
        unit="worker", mechanism=mechanism, epsilon=8, delta=1e-5, corrupt=CORRUPT, measured=True
    )
    secure = SecureAggregation(profile="cross-silo", tolerate=None, bits=32, max_examples=9)  # type: ignore[arg-type]
    return plan_of(privacy=privacy, secure_aggregation=secure, per_round=PER_ROUND, minimum=MINIMUM)


def check_noise(plan: Plan, chance: Chances) -> None:
    """The fewest survivors that open a sum, without those of them that may be corrupt, bear what is charged for."""
    release, mechanism = release_of(plan, SHAPE), mechanism_at(plan)
    (charged,) = cost_of(plan, dimension=VALUES)
    assert isinstance(charged, SkellamCost)
    zeros = {"w": np.zeros(VALUES, "f4")}
    honest = range(MINIMUM - CORRUPT)
    total = sum(mechanism.on_worker(zeros, release, chance(seed))["w"] for seed in honest)
    low, high = stats.chi2.ppf([1e-5, 1 - 1e-5], VALUES) / VALUES
    assert charged.variance * low < np.var(total) < charged.variance * high


def split_among_all_who_are_asked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(job, "honest_of", lambda plan: plan.selection.asked)


def the_corrupt_are_trusted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(job, "honest_of", lambda plan: plan.selection.minimum)


def half_a_share(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(skellam, "share", lambda variance, honest: variance / honest / 2)


def everybody_makes_it_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(skellam, "share", lambda variance, _: float(variance))


MUTANTS = [split_among_all_who_are_asked, the_corrupt_are_trusted, half_a_share, everybody_makes_it_all]


def test_the_fewest_honest_survivors_make_what_is_charged_for(plan: Plan, chance: Chances) -> None:
    """Measured at a sum of exactly as many as must report, within what so many values can tell."""
    check_noise(plan, chance)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_wrong_split_is_found(
    mutant: Callable[[pytest.MonkeyPatch], None], plan: Plan, chance: Chances, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shares for more workers than are sure, too little in each, or too much."""
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        check_noise(plan, chance)
