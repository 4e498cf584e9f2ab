"""Whole jobs that lose a process in the middle of a round."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from fl_core.shortfall import SILENT
from tests.rounds.conftest import until

pytestmark = pytest.mark.rounds

MOMENTUM = {"strategy": {"name": "momentum:Momentum", "beta": 0.5}}


def models(rounds: list[dict[str, Any]]) -> list[str]:
    return [row["model"] for row in rounds]


def test_a_server_killed_in_a_round_opens_it_again(job: Callable[..., Any]) -> None:
    """Killed with SIGKILL while workers train and started again, it ends with the model of an undisturbed run.

    The strategy remembers a velocity, so its state must have survived too.
    """
    undisturbed, run = job(spec=MOMENTUM), job(spec=MOMENTUM, gate=3)
    run.begin()
    address = run.announced["server"]["address"]
    run.wait_held()
    run.kill("server")
    run.release()
    run.server(listen=address)
    assert run.code("server") == 0
    assert models(run.rounds()) == models(undisturbed.finish())
    kept = [one.storage / "models" / "best.safetensors" for one in (run, undisturbed)]
    assert kept[0].read_bytes() == kept[1].read_bytes()
    assert all(run.code(f"worker-{index}") == 0 for index in range(3))


def cohorts(run: Any) -> set[int]:
    """The attempts for which the server has heard of a cohort."""
    return {row["attempt"] for row in run.log("server") if row["event"] == "cohort"}


def test_a_server_killed_in_a_later_attempt_counts_on(job: Callable[..., Any]) -> None:
    """Its successor opens the third attempt with the second's draw, and tells who was lost in the first."""
    run = job(selection={"minimum": 3}, gate=1)
    run.begin()
    address = run.announced["server"]["address"]
    run.wait_held()
    run.kill("worker-2")
    run.wait_said("server", "attempt abandoned")
    run.worker(2)
    until(lambda: 2 in cohorts(run), what="the second attempt")
    run.kill("server")
    run.server(listen=address)
    run.release()
    assert run.code("server") == 0
    first, *others = run.rounds()
    assert (first["attempt"], len(first["reporters"])) == (3, 3)
    assert first["earlier"] == [
        {"attempt": 1, "dropouts": {"worker-2": SILENT}},
        {"attempt": 2, "dropouts": {}, "reason": "the server was started again"},
    ]
    assert [row["attempt"] for row in others] == [1] * 3
    lines = (run.storage / "attempts.jsonl").read_text().splitlines()
    opened = [(row["attempt"], row["draw"]) for row in map(json.loads, lines) if row["round"] == 1]
    assert opened == [(1, 1), (2, 2), (3, 2)]


def test_a_scheduler_killed_in_a_round_leaves_it_open(job: Callable[..., Any]) -> None:
    """Killed with SIGKILL while workers train and started again, it finds them; the open attempt goes on."""
    run = job(gate=1)
    run.begin()
    run.wait_held()
    address = run.announced["scheduler"]["address"]
    run.kill("scheduler")
    run.scheduler(listen=address)
    run.release()
    assert run.code("server") == 0
    assert [(row["attempt"], len(row["reporters"])) for row in run.rounds()] == [(1, 3)] * 4


def test_a_job_outlives_both_of_them(job: Callable[..., Any]) -> None:
    """Server and scheduler terminated in the first round, before any commit, and started again: the same model."""
    undisturbed, run = job(), job(gate=1)
    run.begin()
    addresses = {name: run.announced[name]["address"] for name in ("scheduler", "server")}
    run.wait_held()
    for name in addresses:
        run.kill(name, signal.SIGTERM)
        assert run.code(name) == 143
    run.scheduler(listen=addresses["scheduler"])
    run.server(listen=addresses["server"])
    run.release()
    assert run.code("server") == 0
    assert models(run.rounds()) == models(undisturbed.finish())
    assert [len(row["reporters"]) for row in run.rounds()] == [3] * 4


def test_a_scheduler_that_stays_away_ends_the_server(job: Callable[..., Any]) -> None:
    """A server that cannot find its scheduler for `preRunningDeadlineSeconds` says so and asks to be retried."""
    run = job(spec={"preRunningDeadlineSeconds": 1})
    run.scheduler()
    run.kill("scheduler")
    run.server()
    assert run.code("server") == 75
    assert "the scheduler has been silent for 1 s" in run.said("server")


def test_a_stalled_worker_is_given_up_and_joins_again(job: Callable[..., Any]) -> None:
    """A stopped worker loses its lease, the round closes with its quorum, and it takes part once it is awake."""
    run = job(spec={"rounds": 40}, selection={"deadlineSeconds": 3, "stallSeconds": 3}, gate=1)
    run.begin()
    run.wait_held()
    run.kill("worker-1", signal.SIGSTOP)
    run.release()
    run.wait_recorded(1)
    run.kill("worker-1", signal.SIGCONT)
    assert run.code("server") == 0
    rounds = run.rounds()
    assert rounds[0]["dropouts"] == {"worker-1": "deadline"}
    assert rounds[0]["reporters"] == ["worker-0", "worker-2"]
    assert rounds[-1]["reporters"] == ["worker-0", "worker-1", "worker-2"]


def test_a_worker_killed_in_a_round_joins_the_next(job: Callable[..., Any]) -> None:
    """A worker that is killed while it trains and started again is in the cohort of a later round."""
    run = job(spec={"rounds": 200}, gate=1)
    run.begin()
    run.wait_held()
    run.kill("worker-2")
    run.release()
    run.worker(2)
    run.wait_reported("worker-2")
    assert all(row["result"] == "Committed" for row in run.rounds())
