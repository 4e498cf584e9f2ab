"""Whole jobs with real processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fl_core.roster import RETURN_SECONDS
from fl_server.checkpoints import read
from fl_worker.discretion import ENDED, NOTHING

pytestmark = pytest.mark.rounds


def test_a_job_trains_to_its_end(job: Callable[..., Any]) -> None:
    """Every round commits with all workers, the loss falls, all processes end with 0, the last model is kept."""
    run = job()
    rounds = run.finish()
    assert [row["result"] for row in rounds] == ["Committed"] * 4
    assert all(row["reporters"] == ["worker-0", "worker-1", "worker-2"] for row in rounds)
    assert rounds[-1]["metrics"]["loss"] < rounds[0]["metrics"]["loss"]
    assert {name: run.code(name) for name in run.processes} == dict.fromkeys(run.processes, 0)
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


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "secure"])
def test_a_model_that_has_diverged_ends_nobody(job: Callable[..., Any], *, secure: bool) -> None:
    """Its round is told as one whose measurements are not finite, and is no progress; the job goes on to its end."""
    run = job(
        spec={"secureAggregation": {"enabled": secure}, "target": {"metric": "auc", "atLeast": 2}},
        selection={"minimum": 3},
        diverges=2,
    )
    rounds = run.finish()
    assert [row["result"] for row in rounds] == ["Committed"] * 4
    assert [row["dropouts"] for row in rounds] == [{}] * 4
    assert [row.get("notFinite") for row in rounds] == [None, ["auc", "loss"], None, None]
    assert [sorted(row["metrics"]) for row in rounds] == [
        ["auc", "loss", "seen"],
        ["seen"],
        *[["auc", "loss", "seen"]] * 2,
    ]
    assert {name: run.code(name) for name in run.processes} == dict.fromkeys(run.processes, 0)


def test_too_few_updates_fail_the_job_by_its_rule(job: Callable[..., Any]) -> None:
    """With `onShortfall: Fail` a shortfall ends the server with its own exit code and says who was missing.

    Nobody starts it again, so the others are told to go.
    """
    run = job(selection={"minimum": 3, "onShortfall": {"action": "Fail"}}, nan=0)
    assert run.finish() == []
    assert run.code("server") == 68
    assert "worker-0" in run.said("server")
    assert {run.code(name) for name in ("scheduler", "worker-0", "worker-1", "worker-2")} == {0}


def test_a_program_that_raises_ends_its_worker_and_shows_its_traceback(job: Callable[..., Any]) -> None:
    """A worker whose program raises ends with 66, and its log holds the program's own lines.

    The rest goes on without waiting for it; the record names the error, and nothing of the data.
    """
    run = job(raises=1)
    rounds = run.finish()
    assert [row["reporters"] for row in rounds] == [["worker-0", "worker-2"]] * 4
    why = "the program raised ValueError while it trained in round 1; mend it and start the job again"
    assert rounds[0]["dropouts"] == {"worker-1": why}
    assert rounds[0]["seconds"]["total"] < RETURN_SECONDS
    assert run.code("worker-1") == 66
    assert "no such column" in run.said("worker-1")
    assert 'raise ValueError("no such column")' in run.log("worker-1")[-1]["event"]


@pytest.mark.parametrize("trouble", ["raises", "nan"])
def test_with_secure_sums_a_failure_is_told_in_fixed_words(job: Callable[..., Any], trouble: str) -> None:
    """What a program raises, and what is wrong with an update, stands in the worker's own log and nowhere else."""
    many = {"secureAggregation": {"enabled": True}, "workers": {"replicas": 4}, "rounds": 2}
    run = job(spec=many, selection={"minimum": 3}, **{trouble: 1})
    rounds = run.finish()
    assert [row["reporters"] for row in rounds] == [["worker-0", "worker-2", "worker-3"]] * 2
    fixed = ENDED if trouble == "raises" else f"worker-1{NOTHING}"
    assert rounds[0]["dropouts"] == {"worker-1": fixed}
    run.code("worker-1")
    words = {"raises": b"ValueError", "nan": b"not finite"}[trouble]
    where = [path.name for path in run.folder.rglob("*.*") if path.is_file() and words in path.read_bytes()]
    assert sorted(where) == ["toy.py", "worker-1.log"][trouble == "nan" :]


def test_too_few_workers_in_time_fail_the_job(job: Callable[..., Any]) -> None:
    """When the quorum has not come by `preRunningDeadlineSeconds` the job fails and says who is missing."""
    run = job(spec={"preRunningDeadlineSeconds": 1})
    run.scheduler()
    run.announced["server"] = {"address": "127.0.0.1:1"}
    run.worker(1)
    run.wait_said("worker-1", "enrolled")
    run.server()
    assert run.code("server") == 68
    assert "1 of 3 workers were ready after 1 s" in run.said("server")
    assert "not there: worker-0, worker-2" in run.said("server")


def test_an_unknown_target_metric_is_named(job: Callable[..., Any]) -> None:
    """A target that the program does not measure ends the job and names what it does measure."""
    run = job(spec={"target": {"metric": "auc", "atLeast": 0.9}})
    run.finish()
    assert run.code("server") == 65
    assert "spec.target.metric: 'auc' is not among the program's metrics, loss" in run.said("server")


def test_a_target_ends_the_job_early(job: Callable[..., Any]) -> None:
    """The job is over with the round that reaches its target."""
    run = job(spec={"rounds": 50, "target": {"metric": "loss", "atMost": 2.0}})
    rounds = run.finish()
    assert 1 < len(rounds) < 50
    assert rounds[-1]["metrics"]["loss"] <= 2.0 < rounds[-2]["metrics"]["loss"]
    assert run.code("server") == 0
