"""Whoever reads why an attempt had too few updates knows who must act, and whether it helps to go on."""

from __future__ import annotations

import pytest

from fl_core.errors import RoundError, UpdateError
from fl_core.plan import Selection
from fl_core.shortfall import LATE, LEFT, LOST, kind_of, own, recurs, refused, too_few
from tests.conftest import plan_of

SELECTION: Selection = plan_of(deadline_seconds=7.0).selection


@pytest.mark.parametrize(
    ("dropped", "said", "again"),
    [
        ({"worker-0": "gone"}, "(worker-0: gone)", False),
        ({"worker-0": "deadline", "worker-1": "gone"}, "spec.selection.deadlineSeconds (7 s)", False),
        (
            {"worker-0": "deadline", "worker-1": "deadline"},
            "(worker-0, worker-1: nothing whole had come",
            True,
        ),
        ({"worker-0": "worker-0's update: NaN"}, "(worker-0's update: NaN)", True),
        ({"worker-0": "left", "worker-1": "left"}, "(worker-0, worker-1 left: told to end", False),
        ({"worker-0": "the program is still busy: train, round 1"}, "(worker-0: the program is still", True),
    ],
)
def test_each_reason_is_told_once_with_who_must_act(
    dropped: dict[str, str], said: str, *, again: bool
) -> None:
    """No name is doubled; where all lies in the program, to go on with the job as it is would end the same way."""
    sentence = too_few(SELECTION, (1, 1 + len(dropped), 3), dropped)
    assert sentence.startswith(f"1 updates of {1 + len(dropped)} asked, fewer than selection.minimum (3) (")
    assert said in sentence
    assert recurs(dropped) == again


@pytest.mark.parametrize("reason", [*sorted(LATE | LOST), LEFT, "refused: NaN"])
def test_no_worker_speaks_for_the_server(reason: str) -> None:
    """What a worker says of itself counts as its own reason, even in the words of the server or the scheduler."""
    assert kind_of(reason) == reason.partition(":")[0]
    assert kind_of(own("worker-1", reason)) == "declined"
    assert own("worker-1", "the program raised KeyError") == "the program raised KeyError"


def test_a_refusal_tells_nothing_of_what_was_sent() -> None:
    """The record has fixed words for it, whatever the error quotes."""
    assert refused(UpdateError("1e30 is too large", short="beyond the bound")) == "refused: beyond the bound"
    assert "secret" not in refused(RoundError("'secret' is no name"))
