"""What others hear of a failure: all of it, or fixed words where a job hides single workers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fl_core.errors import (
    FLJobError,
    JobError,
    MismatchError,
    OrderError,
    ProgramError,
    ProtocolError,
    RoundError,
    UpdateError,
)
from fl_core.plan import Plan, SecureAggregation
from fl_worker.discretion import ENDED, Discretion
from tests.conftest import private

SECURE = SecureAggregation(profile="cross-silo", tolerate=None, bits=32, max_examples=100)
OPEN, SECRET = Discretion("worker-2", secret=False), Discretion("worker-2", secret=True)
FIXED = "worker-2's part of the round cannot be handed in; its own log says why"


@pytest.mark.parametrize(
    ("changes", "secret"),
    [({}, False), ({"secure_aggregation": SECURE}, True), ({"privacy": private()}, True)],
)
def test_who_hides_single_workers_is_discreet(
    plan_of: Callable[..., Plan], changes: dict[str, object], *, secret: bool
) -> None:
    """Secure sums do, and so does noise; a job in the clear has its full texts."""
    assert Discretion.of(plan_of(**changes), worker="worker-2") == Discretion("worker-2", secret=secret)


@pytest.mark.parametrize("error", [UpdateError("array 'w' holds 3 values"), RoundError("patient 17")])
def test_a_decline_holds_nothing_of_an_update(error: RoundError) -> None:
    """Nobody hears how many values are wrong, or of which array, but where everybody sees the update anyway."""
    assert (OPEN.declining(error), SECRET.declining(error)) == (str(error), FIXED)


@pytest.mark.parametrize("error", [OrderError("round 9 is asked for"), ProtocolError("a forged roster")])
def test_what_was_wrong_with_an_order_is_told(error: RoundError) -> None:
    """It was said by whoever hears it, and nothing of the data is in it."""
    assert SECRET.declining(error) == str(error)


def test_who_leaves_says_one_line_or_fixed_words() -> None:
    """The traceback stays in the log in either case."""
    error = ProgramError("the program raised KeyError\npatient 17")
    assert (OPEN.leaving(error), SECRET.leaving(error)) == ("the program raised KeyError", ENDED)
    assert SECRET.leaving(ValueError("patient 17")) == ENDED


@pytest.mark.parametrize(
    ("error", "held"),
    [
        (ProgramError("patient 17"), True),
        (JobError("a class of its own raised KeyError: patient 17"), True),
        (UpdateError("patient 17"), True),
        (MismatchError("another plan"), False),
    ],
)
def test_a_pods_status_shows_fixed_words(error: FLJobError, *, held: bool) -> None:
    """The log has the sentence all the same; what is wrong with plan or certificate stands there in the open."""
    with pytest.raises(type(error)) as raised, SECRET.last_words():
        raise error
    assert (raised.value.outside, str(raised.value)) == (ENDED if held else "", str(error))
    with pytest.raises(JobError) as raised, OPEN.last_words():
        raise JobError("as it is")
    assert raised.value.outside == ""
