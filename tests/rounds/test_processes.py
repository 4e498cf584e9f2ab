"""Whole jobs with real processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fl_server.checkpoints import read

pytestmark = pytest.mark.rounds


def test_a_job_trains_to_its_end(job: Callable[..., Any]) -> None:
    """Every round commits with all workers, the loss falls, all processes end with 0, the last model is kept."""
    run = job()
    rounds = run.finish()
    assert [row["result"] for row in rounds] == ["Committed"] * 4
    assert all(row["reporters"] == ["worker-0", "worker-1", "worker-2"] for row in rounds)
    assert rounds[-1]["metrics"]["loss"] < rounds[0]["metrics"]["loss"]
    assert {name: process.wait(30) for name, process in run.processes.items()} == dict.fromkeys(
        run.processes, 0
    )
    saved = read(run.folder / "storage" / "models" / "last.safetensors")
    assert saved.facts["digest"] == rounds[-1]["model"]


def test_two_runs_give_the_same_model(job: Callable[..., Any]) -> None:
    """The same job gives the same model after each round, byte for byte."""
    first, second = (job().finish() for _ in range(2))
    assert [row["model"] for row in first] == [row["model"] for row in second]


def test_a_killed_worker_costs_no_round(job: Callable[..., Any]) -> None:
    """A worker that dies in training is dropped, named with its reason, and the quorum goes on without it."""
    rounds = job(killed=1).finish()
    assert [row["result"] for row in rounds] == ["Committed"] * 4
    assert rounds[0]["dropouts"] == {"worker-1": "no heartbeat"}
    assert all(row["reporters"] == ["worker-0", "worker-2"] for row in rounds)


def test_a_model_with_nan_is_declined_and_named(job: Callable[..., Any]) -> None:
    """A worker whose update is not finite hands in nothing; the round's record says why."""
    rounds = job(nan=2).finish()
    assert "not finite" in rounds[0]["dropouts"]["worker-2"]
    assert rounds[-1]["reporters"] == ["worker-0", "worker-1"]


def test_too_few_updates_fail_the_job_by_its_rule(job: Callable[..., Any]) -> None:
    """With `onShortfall: Fail` a shortfall ends the server with its own exit code and says who was missing."""
    run = job(minimum=3, nan=0)
    with pytest.raises(FileNotFoundError):
        run.finish()
    assert run.processes["server"].wait(30) == 68
    assert "worker-0" in (run.folder / "server.log").read_text()
