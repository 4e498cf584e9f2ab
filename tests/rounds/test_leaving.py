"""Whole jobs whose workers are told to end while a round is open: scaled down, drained, or stopped by hand."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fl_core.roster import LEASE_SECONDS
from fl_worker.farewell import WAY_OUT_SECONDS
from tests.rounds.conftest import until
from tests.rounds.secure import SecureRun, in_the_clear, models, runs

pytestmark = pytest.mark.rounds

SHORT = f"{WAY_OUT_SECONDS + 0.2}"
"""A grace in which no worker that is held at its gate can hand anything in."""
FIVE = [f"worker-{index}" for index in range(5)]
GONE = {"worker-1": "left", "worker-2": "left"}


def scaled_down(run: Any, **options: str) -> float:
    """Tell the workers 1 and 2 of five to end while they train in round 2; gives the moment."""
    run.scheduler()
    run.server()
    run.worker(*range(5), **options)
    run.wait_held()
    for name in GONE:
        run.kill(name, signal.SIGTERM)
        run.wait_said(name, "what is open is handed in first")
    return time.monotonic()


def test_those_who_are_scaled_down_hand_in_what_they_are_at(job: Callable[..., Any]) -> None:
    """From five workers to three in mid-round, all of them asked: everybody's update counts, and no attempt is lost."""
    run = job(spec={"rounds": 6, "workers": {"replicas": 5}}, selection={"minimum": 3}, gate=2)
    scaled_down(run)
    run.release()
    assert [run.code(name) for name in GONE] == [143, 143]
    assert run.code("server") == 0
    rows = run.rounds()
    assert [(row["result"], row["attempt"]) for row in rows] == [("Committed", 1)] * 6
    assert [len(row["reporters"]) for row in rows] == [5, 5, 3, 3, 3, 3]
    assert all(set(row["dropouts"].items()) <= set(GONE.items()) for row in rows)
    assert sum(row["seconds"]["total"] for row in rows[2:]) < LEASE_SECONDS


def test_those_who_cannot_are_counted_out(job: Callable[..., Any]) -> None:
    """At the end of its grace a worker leaves, its program not heeded; the round closes with the others at once."""
    run = job(spec={"rounds": 6, "workers": {"replicas": 5}}, selection={"minimum": 3}, gate=2)
    began = scaled_down(run, grace=SHORT)
    assert [run.code(name) for name in GONE] == [143, 143]
    assert time.monotonic() - began < LEASE_SECONDS
    assert 'fl_worker_dropouts_total{reason="left"} 2.0' in run.scrape("server")
    run.release()
    assert run.code("server") == 0
    rows = run.rounds()
    assert [(row["result"], row["attempt"]) for row in rows] == [("Committed", 1)] * 6
    assert [len(row["reporters"]) for row in rows] == [5, 3, 3, 3, 3, 3]
    assert rows[1]["dropouts"] == GONE


def test_a_round_that_fails_for_want_of_workers_asks_others_instead(job: Callable[..., Any]) -> None:
    """With `onShortfall: Fail` and all whom a round asks needed, a scaling down to the quorum costs only time."""
    asked = {"perRound": 3, "minimum": 3, "onShortfall": {"action": "Fail"}}
    run = job(spec={"workers": {"replicas": 5}}, selection=asked, gate=1)
    run.scheduler()
    run.server()
    run.worker(*range(5), grace=SHORT)

    def ordered(attempt: int) -> set[str]:
        lines = [row for row in run.log("scheduler") if row["event"] == "ordered"]
        found = {row["worker"] for row in lines if (row["purpose"], row["attempt"]) == ("train", attempt)}
        return found if len(found) == 3 else set()

    cohort = until(lambda: ordered(1), what="the first cohort")
    held = [path for path in run.program.glob("gate-*") if path.name.replace("gate", "worker") in cohort]
    run.gates = [path.open("w") for path in held]
    leavers = {held[0].name.replace("gate", "worker"), min(set(FIVE) - cohort)}
    began = time.monotonic()
    for name in leavers:
        run.kill(name, signal.SIGTERM)
    assert until(lambda: ordered(2), what="the second attempt") == set(FIVE) - leavers
    assert time.monotonic() - began < LEASE_SECONDS
    run.release()
    assert run.code("server") == 0
    rows = run.rounds()
    assert [row["result"] for row in rows] == ["Committed"] * 4
    assert rows[0]["earlier"] == [{"attempt": 1, "dropouts": {(cohort & leavers).pop(): "left"}}]


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Callable[..., SecureRun]]:
    """Build runs with secure aggregation of four workers, of whom three open a sum."""
    with runs(tmp_path) as build:
        yield build


@pytest.mark.parametrize("in_time", [True, False])
def test_secure_sums_do_without_who_leaves(secure: Callable[..., SecureRun], *, in_time: bool) -> None:
    """Told to end while it trains, a worker is in the sum if it comes so far, else out of it; the sum is right."""
    run = secure(rounds=4)
    run.hold("train.2", 1)
    run.scheduler()
    run.server()
    run.worker(*range(4), grace="30" if in_time else SHORT)
    run.wait_at("worker-1", "train.2")
    run.kill("worker-1", signal.SIGTERM)
    run.wait_said("worker-1", "what is open is handed in first")
    if in_time:
        run.let_go("train.2", 1)
    assert run.code("worker-1") == 143
    assert run.ends() == 0
    rows = run.rounds()
    assert models(run) == in_the_clear(run)
    assert [row["attempt"] for row in rows] == [1] * 4
    assert [len(row["reporters"]) for row in rows] == [4, 4 if in_time else 3, 3, 3]
    assert rows[1]["dropouts"] == {"worker-1": "left"}
