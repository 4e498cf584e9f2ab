"""Whoever reads why an attempt had too few updates knows who must act, and whether it helps to go on."""

from __future__ import annotations

import pytest

from fl_core.plan import Selection
from fl_core.shortfall import mending, recurs, too_few
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
        ({"worker-0": "the program is still busy: train, round 1"}, "(worker-0: the program is still", True),
    ],
)
def test_each_reason_is_told_once_with_who_must_act(
    dropped: dict[str, str], said: str, *, again: bool
) -> None:
    """No name is doubled; where all lies in the program, the end of the job says not to go on as it is."""
    sentence = too_few(SELECTION, (1, 1 + len(dropped), 3), dropped)
    assert sentence.startswith(f"1 updates of {1 + len(dropped)} asked, fewer than selection.minimum (3) (")
    assert said in sentence
    assert not recurs(sentence)
    assert recurs(sentence + mending(dropped)) == again
