"""What follows from a job's terms for sessions of any size that its members accept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from fl_core.errors import ProtocolError
from fl_core.plan import Plan, SecureAggregation
from fl_core.secagg.job import terms_of
from fl_core.secagg.parameters import Parameters, part_of, verify
from fl_core.secagg.session import Session
from fl_core.secagg.terms import Terms
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


@pytest.mark.parametrize(("there", "least"), [(120, 84), (100, 70), (80, 70), (70, 70)])
def test_no_more_leave_than_the_graph_is_computed_for(there: int, least: int) -> None:
    """In a bucket with more than its 100 of a round's workers more must stay than the 70 who are enough of 100."""
    terms, workers = Terms("cross-device", minimum=70, cohort=100), tuple(range(there))
    session = Session(context(terms), workers, workers, b"")
    session.check(workers[:least], what="survivors")
    assert there - least <= part_of(there, terms.dropout)
    with pytest.raises(ProtocolError, match=f"{least - 1} survivors, fewer than the {least}"):
        session.check(workers[: least - 1], what="survivors")


def accepted(terms: Terms, most: int) -> dict[int, Parameters]:
    """Of which sizes members take a list of candidates, with what they compute for it."""
    found = {}
    for size in range(most + 1):
        workers = tuple(range(size))
        with suppress(ProtocolError):
            found[size] = Session(context(terms), workers, workers, b"").parameters
    return found


def kinds(cohort: int) -> Iterator[Terms]:
    """The terms of all cross-silo jobs of so many workers: what may be lost, and every quorum beyond."""
    for tolerate in (None, *range(cohort)):
        with suppress(ProtocolError):
            least = Terms(tolerate=tolerate).survivors(cohort)
            yield from (Terms(minimum=minimum, tolerate=tolerate) for minimum in range(least, cohort + 1))


@pytest.mark.parametrize("cohort", range(3, 21))
def test_so_many_as_are_said_may_be_curious_and_no_more(cohort: int) -> None:
    """In the smallest roster, too, they hold fewer shares than open a secret, and two others are in its sum; with one
    more that is not so.
    """
    for terms in kinds(cohort):
        fewest = min(one.threshold for one in accepted(terms, cohort).values())
        said = terms.curious(cohort)
        assert said < fewest
        assert said + 2 <= terms.floor
        assert said + 1 == fewest or said + 3 > terms.floor


@pytest.mark.parametrize("cohort", range(3, 21))
def test_so_many_as_are_said_may_help_a_server_that_cheats_and_no_more(cohort: int) -> None:
    """Whatever list it shows, up to five more than the cohort, they do not make up what two sums need: t signatures
    each, of lists of survivors that differ; with one more they do, or leave nobody to hide behind.
    """
    for terms in kinds(cohort):
        said = terms.helping(cohort + 5)
        lists = accepted(terms, cohort + 5).items()
        missing = [2 * one.threshold - size for size, one in lists if size > max(terms.floor, one.threshold)]
        assert all(said < twice for twice in missing)
        assert said + 2 <= terms.floor
        assert said + 1 in missing or said + 3 > terms.floor


@pytest.mark.parametrize(
    ("cohort", "tolerate", "curious", "helping"),
    [
        (3, None, 1, 1),
        (8, None, 4, 2),
        (10, None, 4, 3),
        (10, 3, 3, 1),
        (10, 4, 4, 0),
        (20, None, 9, 5),
        (50, None, 22, 12),
        (100, None, 44, 23),
    ],
)
def test_the_numbers_of_usual_jobs(cohort: int, tolerate: int | None, curious: int, helping: int) -> None:
    """A change of what is claimed would be seen here."""
    terms = Terms(minimum=Terms(tolerate=tolerate).survivors(cohort), tolerate=tolerate)
    assert (terms.curious(cohort), terms.helping(cohort)) == (curious, helping)


@pytest.mark.parametrize(("cohort", "buckets", "largest"), [(200, 1, 200), (7, 2, 4), (9, 3, 3)])
def test_corrupt_workers_are_counted_of_the_largest_bucket(
    plan_of: PlanOf, cohort: int, buckets: int, largest: int
) -> None:
    """When all of a round's workers are there."""
    plan = secure(plan_of, cohort, minimum=3, profile="cross-silo", buckets=buckets)
    assert terms_of(plan).cohort == largest
