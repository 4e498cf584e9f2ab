"""What a site insists on: members, organisations and threshold, in the roster and among those who are left."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from fl_core.errors import ProtocolError
from fl_core.secagg.policy import OPEN, Policy
from fl_core.secagg.session import Entry, Session
from fl_core.secagg.terms import Terms
from tests.fl_core.secagg.cast import context, signer


def session(n: int, terms: Terms | None = None) -> Session:
    """A session of so many members."""
    return Session(context(terms or Terms()), tuple(range(n)), tuple(range(n)), b"")


def entries(*organisations: str) -> dict[int, Entry]:
    """An entry for each worker, whose certificate its organisation has issued."""
    return {
        worker: Entry(worker, b"", b"", b"", signer(worker, by=by).certificate)
        for worker, by in enumerate(organisations)
    }


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
        with pytest.raises(ProtocolError, match=f"of 5; this site's policy asks for a share of {share}"):
            policy.check_session(one)


@pytest.mark.parametrize(
    ("left", "good"), [(range(4), True), ((0, 1, 3), True), ((0, 1, 2), False), ((2,), False), ((), False)]
)
def test_organisations_are_counted_among_those_who_are_left(left: Collection[int], *, good: bool) -> None:
    """A server that drops all others' workers leaves one organisation, which is refused."""
    policy, own = Policy(organisations=2), entries("north", "north", "north", "south")
    if good:
        policy.check_members(session(4), left, own)
    else:
        with pytest.raises(ProtocolError, match="organisations; this site's policy asks for 2"):
            policy.check_members(session(4), left, own)
