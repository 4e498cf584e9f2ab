"""What a site insists on: members, organisations and threshold, in the roster and among those who are left."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as some

from fl_core.errors import ProtocolError, SpecError
from fl_core.identity import wall_time
from fl_core.secagg.endorsement import NONE, Organisations, endorse
from fl_core.secagg.parameters import part_of
from fl_core.secagg.policy import OPEN, Policy
from fl_core.secagg.session import Entry, Session
from fl_core.secagg.terms import Terms
from tests.fl_core.secagg.cast import JOB, context, signer
from tests.fl_core.secagg.hospitals import hospital


def session(n: int, terms: Terms | None = None) -> Session:
    """A session of so many members."""
    return Session(context(terms or Terms()), tuple(range(n)), tuple(range(n)), b"")


def entries(*organisations: str) -> dict[int, Entry]:
    """An entry for each worker, which its organisation endorses; one without a name has none."""
    return {worker: entry(worker, by) for worker, by in enumerate(organisations)}


def entry(worker: int, by: str) -> Entry:
    """A worker's entry."""
    own, of = signer(worker).certificate, hospital(by)
    word = endorse(of.certificate, of.key, job=JOB, worker=worker, own=own) if by else NONE
    return Entry(worker, b"", b"", b"", own, endorsement=word)


def insisting(least: int = 2) -> Policy:
    """A site's that knows two hospitals."""
    return Policy(
        organisations=least,
        partners=Organisations([hospital("North").authority, hospital("South").authority], wall_time),
    )


def test_an_open_policy_asks_for_nothing() -> None:
    """Beyond what the protocol itself asks."""
    OPEN.check_session(session(3))
    OPEN.check_members(session(3), (), {})


@pytest.mark.parametrize(("asked", "there"), [(3, 3), (4, 7), (4, 3), (1, 0)])
def test_a_floor_of_members(asked: int, there: int) -> None:
    """As many as it says, or more."""
    policy = Policy(members=asked)
    if there >= asked:
        policy.check_members(session(7), range(there), {})
    else:
        with pytest.raises(ProtocolError, match=f"{there} members; this site's policy asks for {asked}"):
            policy.check_members(session(7), range(there), {})


@pytest.mark.parametrize(
    ("tolerate", "share", "good"),
    [(None, 0.66, True), (None, 0.8, True), (None, 0.81, False), (2, 0.66, False)],
)
def test_a_threshold_as_a_share_of_the_candidates(tolerate: int | None, share: float, *, good: bool) -> None:
    """Four of five are 0.8; three of five, which `tolerate: 2` gives, are less than two thirds."""
    policy, one = Policy(threshold=share), session(5, Terms(tolerate=tolerate))
    if good:
        policy.check_session(one)
    else:
        with pytest.raises(
            ProtocolError, match=f"of 5 agree; this site's policy asks for a share of {share}"
        ):
            policy.check_session(one)


@pytest.mark.parametrize(("share", "good"), [(0.5, True), (0.7, True), (0.71, False)])
def test_the_share_is_of_survivors_where_members_see_their_neighbours_only(
    share: float, *, good: bool
) -> None:
    """Of 200 in cross-device 140 must survive, though 11 shares of a neighbourhood open each secret in it."""
    policy, one = Policy(threshold=share), session(200, Terms(profile="cross-device", minimum=140))
    assert one.threshold < 0.1 * 200
    if good:
        policy.check_session(one)
    else:
        with pytest.raises(ProtocolError, match="opens when 140 of 200 agree"):
            policy.check_session(one)


@pytest.mark.parametrize(
    ("terms", "n", "shares", "told"),
    [
        (Terms(), 10, {"corrupt": 0.3}, ""),
        (Terms(), 10, {"corrupt": 0.31}, "the threshold is 7 of 10; with 4 corrupt it must be at least 8"),
        (Terms(), 10, {"dropout": 0.9}, ""),
        (Terms(tolerate=4), 10, {}, ""),
        (Terms(tolerate=4), 10, {"corrupt": 0.2}, "the threshold is 6 of 10; with 2 corrupt"),
        (Terms(cohort=20), 20, {"corrupt": 0.3}, ""),
        (
            Terms(cohort=20),
            16,
            {"corrupt": 0.3},
            "threshold is 11 of 16; with 6 corrupt it must be at least 12",
        ),
        (Terms(profile="cross-device"), 200, {}, ""),
        (Terms(profile="cross-device", cohort=200), 140, {"corrupt": 0.05}, ""),
        (Terms(profile="cross-device", cohort=200), 140, {"corrupt": 0.06}, "with 12 corrupt"),
        (Terms(profile="cross-device"), 200, {"corrupt": 0.05, "dropout": 0.3}, ""),
        (Terms(profile="cross-device"), 200, {"corrupt": 0.1}, "someone has 11 corrupt neighbours"),
        (Terms(profile="cross-device"), 200, {"dropout": 0.6}, "the others fall apart"),
    ],
)
def test_parameters_are_checked_by_the_sites_own_shares(
    terms: Terms, n: int, shares: dict[str, float], told: str
) -> None:
    """What the job takes its workers for is enough only where the site counts with no worse."""
    if not told:
        Policy(**shares).check_session(session(n, terms))
        return
    with pytest.raises(
        ProtocolError, match=f"round 1, attempt 1, update: .*{told}.*this site's policy asks for more"
    ):
        Policy(**shares).check_session(session(n, terms))


@given(cohort=some.integers(4, 60), part=some.floats(0.5, 1), share=some.floats(0, 0.5))
def test_a_list_of_few_makes_no_worker_honest(cohort: int, part: float, share: float) -> None:
    """Whatever part of a round's workers a server lists: where a site takes it, all that are corrupt by its share could
    sign twice, and no two sums open.
    """
    one = session(max(3, round(cohort * part)), Terms(cohort=cohort))
    with suppress(ProtocolError):
        Policy(corrupt=share).check_session(one)
        assert 2 * one.threshold > len(one.candidates) + part_of(cohort, share)


@pytest.mark.parametrize(
    ("left", "good"), [(range(4), True), ((0, 1, 3), True), ((0, 1, 2), False), ((2,), False), ((), False)]
)
def test_organisations_are_counted_among_those_who_are_left(left: Collection[int], *, good: bool) -> None:
    """A server that drops all others' workers leaves one organisation, which is refused."""
    policy, own = insisting(), entries("North", "North", "North", "South")
    if good:
        policy.check_members(session(4), left, own)
    else:
        with pytest.raises(ProtocolError, match="organisations; this site's policy asks for 2"):
            policy.check_members(session(4), left, own)


@pytest.mark.parametrize(("by", "told"), [("", "no organisation endorses worker-3"), ("East", "by O=East")])
def test_a_member_that_no_partner_endorses_is_refused(by: str, told: str) -> None:
    """However many others are: it could hold shares for the server; once it is gone the others may go on."""
    policy, own = insisting(), entries("North", "South", "South", by)
    with pytest.raises(ProtocolError, match=told):
        policy.check_members(session(4), range(4), own)
    policy.check_members(session(4), range(3), own)


def test_organisations_that_nobody_names_are_not_counted() -> None:
    """A policy of two organisations without their authorities is a mistake."""
    with pytest.raises(SpecError, match="asks for 2 organisations names none"):
        Policy(organisations=2)
