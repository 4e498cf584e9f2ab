"""A whole job whose workers come and go while it runs, as `kubectl scale` lets them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.rounds


def test_workers_come_and_go(job: Callable[..., Any]) -> None:
    """The first round waits for none that are not there; who comes takes part, and who goes is no fault."""
    spec = {"rounds": 5000, "workers": {"replicas": 2, "maxReplicas": 3}}
    run = job(spec=spec, selection={"perRound": 2, "minimum": 2})
    own = {"identity": str(run.identity("scheduler")), "listen": "127.0.0.1:0", "replicas": "2"}
    run.start("scheduler", ["fl_scheduler"], **own)
    run.server()
    run.worker(0, 1)
    run.wait_recorded(3)
    assert {worker for row in run.rounds() for worker in row["reporters"]} == {"worker-0", "worker-1"}
    run.worker(2)
    run.wait_reported("worker-2")
    run.kill("worker-2", signal.SIGTERM)
    run.code("worker-2")
    since = len(run.rounds())
    run.wait_recorded(since + 20)
    rows = run.rounds()
    assert {row["result"] for row in rows} == {"Committed"}
    assert [row["round"] for row in rows] == list(range(1, len(rows) + 1))
    assert all(set(row["reporters"]) == {"worker-0", "worker-1"} for row in rows[since + 2 :])
