"""Whole jobs with workers that come late, hang, or are not needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fl_core.roster import RETURN_SECONDS

pytestmark = [pytest.mark.rounds, pytest.mark.timeout(90)]


def test_a_program_that_never_returns_holds_up_nobody(job: Callable[..., Any]) -> None:
    """Two rounds close at the deadline, later ones at once; at the end it is left behind, and its log says where."""
    run = job(spec={"rounds": 3}, selection={"deadlineSeconds": 3, "stallSeconds": 3}, hangs=1)
    rounds = run.finish()
    assert [row["reporters"] for row in rounds] == [["worker-0", "worker-2"]] * 3
    assert rounds[0]["dropouts"] == {"worker-1": "deadline"}
    assert rounds[2]["dropouts"] == {"worker-1": "the program is still busy: train, round 1"}
    assert rounds[2]["seconds"]["total"] < 3
    assert {name: run.code(name) for name in run.processes} == dict.fromkeys(run.processes, 0)
    assert "toy.py" in run.log("worker-1")[-1]["traceback"]


def test_a_worker_too_many_may_die_for_nothing(job: Callable[..., Any]) -> None:
    """With a spare worker asked, a round that loses one closes with the others' updates, without any grace."""
    run = job(selection={"perRound": 2, "extra": 1}, killed=1)
    rounds = run.finish()
    assert rounds[0]["cohort"] == ["worker-0", "worker-1", "worker-2"]
    assert all(row["reporters"] == ["worker-0", "worker-2"] for row in rounds)
    assert rounds[0]["seconds"]["total"] < RETURN_SECONDS
