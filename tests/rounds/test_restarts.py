"""Whole jobs of `fl-submit run` that lose a process by SIGKILL in the middle of a round."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.rounds.submitted import folder, heard, model, state, submitted

pytestmark = pytest.mark.rounds


@pytest.fixture
def undisturbed(job: Callable[..., Any]) -> bytes:
    """The model of the same job when nobody disturbs it."""
    run = job()
    run.release()
    with submitted(run) as process:
        assert process.wait(60) == 0, process.communicate()
    return model(folder(run))


@pytest.mark.parametrize("role", ["server", "scheduler", "worker-1"])
def test_a_killed_process_is_started_again(job: Callable[..., Any], undisturbed: bytes, role: str) -> None:
    """Killed while workers train, each role comes back: the run is Complete, its model the same to the byte."""
    run = job()
    with submitted(run) as process:
        run.wait_held()
        pid = state(folder(run))["pids"][role]
        os.kill(pid, signal.SIGKILL)
        said = heard(process, f"{role} crashed (it was killed (SIGKILL)")
        run.release()
        said += process.communicate(timeout=60)[0]
    assert (process.returncode, state(folder(run))["state"]) == (0, "Complete"), said
    assert [line.split()[1] for line in said.splitlines() if line.startswith("round ")] == [
        f"{number}/5" for number in range(1, 6)
    ]
    assert model(folder(run)) == undisturbed
