"""Whole runs on this machine whose workers come and go while they train, by `fl-submit scale`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.rounds.conftest import PATIENCE, until

pytestmark = pytest.mark.rounds

SPEC: dict[str, Any] = {
    "seed": 1,
    "rounds": 100_000,
    "program": {"entrypoint": "toy:task", "framework": "numpy"},
    "selection": {"perRound": 2, "minimum": 2, "deadlineSeconds": 60, "stallSeconds": 60},
    "workers": {"replicas": 2, "maxReplicas": 4},
    "secureAggregation": {"enabled": False},
}


def submit(*words: object) -> list[str]:
    """The line of `fl-submit` with these words."""
    return [sys.executable, "-m", "job_generator.cli", *map(str, words)]


def say(*words: object) -> subprocess.CompletedProcess[str]:
    """A command, from another terminal."""
    return subprocess.run(submit(*words), capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def going(job: Callable[..., Any]) -> Iterator[Path]:
    """A run of two workers, of four that there may be, with its first round behind it; its folder."""
    run = job()
    run.release()
    document = {
        "apiVersion": "fljob.dev/v1alpha1",
        "kind": "FLJob",
        "metadata": {"name": "toy"},
        "spec": SPEC,
    }
    file, folder = run.program / "job.yaml", run.folder / "run"
    file.write_text(yaml.safe_dump(document))
    with (run.folder / "output").open("w") as output:
        line = submit("run", file, "--folder", folder)
        process = subprocess.Popen(line, stdout=output, stderr=subprocess.STDOUT)
    try:
        until(lambda: rows(folder), what="a round")
        yield folder
    finally:
        process.kill()
        process.wait(PATIENCE)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The rounds that are recorded."""
    record = folder / "storage" / "metrics.jsonl"
    text = record.read_text() if record.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


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
    state = json.loads((going / "run.json").read_text())
    assert (state["state"], state["replicas"]) == ("Running", 3)


def test_a_run_is_not_scaled_beyond_its_cohort_and_its_room(going: Path) -> None:
    """The sentence says how many there may be, and the run goes on as it was."""
    for wanted in (1, 5):
        refused = say("scale", going, "--workers", wanted)
        assert refused.returncode == 64
        assert "expected 2 to 4" in refused.stderr
    since = len(rows(going))
    until(lambda: len(rows(going)) > since + 2, what="more rounds")
    assert live(going) == 2
