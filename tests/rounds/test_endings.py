"""Whole jobs that end before their last round, because the model gets no better."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.rounds

STOPPING = {"earlyStopping": {"patience": 2, "minDelta": 1e9}, "rounds": 9}


@pytest.mark.parametrize("killed", [False, True])
def test_a_job_without_progress_ends(job: Callable[..., Any], *, killed: bool) -> None:
    """The first measurement is what the next two are compared with, also where the server died in between."""
    run = job(spec=STOPPING, selection={"minimum": 3}, gate=3)
    run.begin()
    run.wait_held()
    if killed:
        address = run.announced["server"]["address"]
        run.kill("server")
        run.server(address)
    run.release()
    assert run.code("server") == 0, run.said("server")
    assert [row["round"] for row in run.rounds()] == [1, 2, 3]
    assert run.log("server")[-1]["reason"] == "NoProgress"
    assert all(run.code(f"worker-{index}") == 0 for index in range(3))
