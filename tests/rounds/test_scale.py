"""Whole runs on this machine whose workers come and go while they train, by `fl-submit scale`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rounds.conftest import PATIENCE, until
from tests.rounds.submitted import fl_submit, rows, state, written
from tests.rounds.submitted import folder as folder_of

pytestmark = pytest.mark.rounds

SPEC: dict[str, Any] = {
    "seed": 1,
    "rounds": 100_000,
    "program": {"entrypoint": "toy:task", "framework": "numpy"},
    "selection": {"perRound": 2, "minimum": 2, "deadlineSeconds": 60, "stallSeconds": 60},
    "workers": {"replicas": 2, "maxReplicas": 4},
    "secureAggregation": {"enabled": False},
}


def say(*words: object) -> subprocess.CompletedProcess[str]:
    """A command, from another terminal."""
    return subprocess.run(fl_submit(*words), capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def going(job: Callable[..., Any]) -> Iterator[Path]:
    """A run of two workers, of four that there may be, with its first round behind it; its folder."""
    run = job()
    run.release()
    folder = folder_of(run)
    with (run.folder / "output").open("w") as output:
        line = fl_submit("run", written(run, SPEC), "--folder", folder)
        process = subprocess.Popen(line, stdout=output, stderr=subprocess.STDOUT)
    try:
        until(lambda: rows(folder), what="a round")
        yield folder
    finally:
        process.kill()
        process.wait(PATIENCE)


def live(folder: Path) -> int:
    """How many workers the newest round could choose from."""
    return int(rows(folder)[-1]["selection"]["live"])


def test_workers_of_a_run_come_and_go(going: Path) -> None:
    """Who comes takes part, who goes is started no more and is no fault, who comes back takes part again."""
    assert live(going) == 2
    for wanted in (4, 2, 3):
        done = say("scale", going, "--workers", wanted)
        assert done.returncode == 0, done.stderr
        assert f"will have {wanted} workers" in done.stdout
        until(lambda wanted=wanted: live(going) == wanted, what=f"a round with {wanted} workers")
        since = len(rows(going))
        until(lambda since=since: len(rows(going)) > since + 20, what="twenty more rounds")
        assert live(going) == wanted
    assert {row["result"] for row in rows(going)} == {"Committed"}
    reporters = {name for row in rows(going) for name in row["reporters"]}
    assert reporters == {f"worker-{index}" for index in range(4)}
    now = state(going)
    assert (now["state"], now["replicas"]) == ("Running", 3)


def test_a_run_is_not_scaled_beyond_its_cohort_and_its_room(going: Path) -> None:
    """The sentence says how many there may be, and the run goes on as it was."""
    for wanted in (1, 5):
        refused = say("scale", going, "--workers", wanted)
        assert refused.returncode == 64
        assert "expected 2 to 4" in refused.stderr
    since = len(rows(going))
    until(lambda: len(rows(going)) > since + 2, what="more rounds")
    assert live(going) == 2
