"""A run that lost a worker, and a run that follows its record: the same models, byte for byte."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.rounds.conftest import PATIENCE, Run

pytestmark = pytest.mark.rounds

SECURE = {"enabled": True}
PLAIN = {"enabled": False}


def written(run: Run, secure: dict[str, Any]) -> Path:
    """Five workers, of whom four are asked and three suffice; nobody who is killed comes back."""
    job = {
        "apiVersion": "fljob.dev/v1alpha1",
        "kind": "FLJob",
        "metadata": {"name": "toy"},
        "spec": {
            "seed": 3,
            "rounds": 6,
            "program": {"entrypoint": "toy:task", "framework": "numpy", "config": {"gate": 2}},
            "selection": {"perRound": 4, "minimum": 3, "deadlineSeconds": 60, "stallSeconds": 60},
            "workers": {"replicas": 5, "restartsPerWorker": 0},
            "secureAggregation": secure,
        },
    }
    path = run.program / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def submit(*words: object) -> subprocess.Popen[str]:
    """`fl-submit run` with these words."""
    line = [sys.executable, "-m", "job_generator.cli", "run", *map(str, words)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def record(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's record."""
    return [json.loads(line) for line in (folder / "storage" / "metrics.jsonl").read_text().splitlines()]


def model(folder: Path) -> bytes:
    return (folder / "storage" / "models" / "last.safetensors").read_bytes()


@pytest.fixture(params=[PLAIN, SECURE], ids=["plain", "secure"])
def disturbed(job: Callable[..., Run], request: pytest.FixtureRequest) -> tuple[Run, Path]:
    """A run in which worker-1 was killed while it trained, and its folder."""
    run = job()
    folder = run.folder / "disturbed"
    with submit(written(run, request.param), "--folder", folder) as process:
        run.wait_held()
        state = json.loads((folder / "run.json").read_text())
        os.kill(state["pids"]["worker-1"], signal.SIGKILL)
        run.release()
        said = process.communicate(timeout=2 * PATIENCE)[0]
    assert process.returncode == 0, said
    return run, folder


def test_a_replay_makes_the_same_models(disturbed: tuple[Run, Path]) -> None:
    """The cohorts are those whose updates were in the models, the lost worker's not among them; so are the bytes."""
    run, before = disturbed
    lost = [row for row in record(before) if "worker-1" in row["dropouts"]]
    assert lost
    assert set(lost[0]["cohort"]) - set(lost[0]["reporters"]) == {"worker-1"}
    after = run.folder / "after"
    with submit("--replay", before, "--folder", after) as process:
        said = process.communicate(timeout=2 * PATIENCE)[0]
    assert process.returncode == 0, said
    assert "✓ 6 rounds replayed: the same models, byte for byte" in said
    assert model(after) == model(before)
    told, again = record(before), record(after)
    assert [row["model"] for row in again] == [row["model"] for row in told]
    assert [row["cohort"] for row in again] == [sorted(row["reporters"]) for row in told]


def test_another_program_is_not_replayed(job: Callable[..., Run]) -> None:
    """Changed files end with a sentence and the code of what does not fit, and no run folder is made."""
    run = job()
    before, after = run.folder / "before", run.folder / "after"
    run.release()
    with submit(written(run, PLAIN), "--folder", before) as process:
        assert process.wait(2 * PATIENCE) == 0
    (run.program / "toy.py").write_text((run.program / "toy.py").read_text() + "\n# better\n")
    with submit("--replay", before, "--folder", after) as process:
        said = process.communicate(timeout=PATIENCE)[0]
    assert (process.returncode, after.exists()) == (67, False)
    assert "is not the one that" in said
