"""What follows from a job's terms for sessions of any size that its members accept."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fl_core.plan import Plan, SecureAggregation
from fl_core.secagg.job import terms_of
from fl_core.secagg.parameters import part_of, verify
from fl_core.secagg.session import Session
from tests.fl_core.secagg.cast import context

PlanOf = Callable[..., Plan]


def secure(plan_of: PlanOf, cohort: int, *, minimum: int, profile: str, buckets: int = 1) -> Plan:
    """A plan whose rounds sum securely over so many."""
    own = SecureAggregation(profile=profile, tolerate=None, bits=32, max_examples=100, buckets=buckets)
    return plan_of(workers=cohort, per_round=cohort, minimum=minimum, secure_aggregation=own)


@pytest.mark.parametrize("there", [200, 170, 140])
def test_a_small_roster_is_safe_from_all_curious_workers_of_the_round(plan_of: PlanOf, there: int) -> None:
    """Of 200 workers 60 may be late, none of the 10 curious ones among them: each worker computes for these 10."""
    terms = terms_of(secure(plan_of, 200, minimum=140, profile="cross-device"))
    workers = tuple(range(there))
    made = Session(context(terms), workers, workers, b"").parameters
    assert made.corrupt == 10
    verify(made, corrupt=10, dropout=part_of(there, 0.3))


@pytest.mark.parametrize(("cohort", "buckets", "largest"), [(200, 1, 200), (7, 2, 4), (9, 3, 3)])
def test_corrupt_workers_are_counted_of_the_largest_bucket(
    plan_of: PlanOf, cohort: int, buckets: int, largest: int
) -> None:
    """When all of a round's workers are there."""
    plan = secure(plan_of, cohort, minimum=3, profile="cross-silo", buckets=buckets)
    assert terms_of(plan).cohort == largest
