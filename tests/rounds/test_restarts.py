"""Whole jobs of `fl-submit run` that lose a process by SIGKILL in the middle of a round."""

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

pytestmark = pytest.mark.rounds

JOB: dict[str, Any] = {
    "apiVersion": "fljob.dev/v1alpha1",
    "kind": "FLJob",
    "metadata": {"name": "toy"},
    "spec": {
        "seed": 1,
        "rounds": 5,
        "program": {"entrypoint": "toy:task", "framework": "numpy", "config": {"gate": 3}},
        "selection": {"minimum": 3, "deadlineSeconds": 60, "stallSeconds": 60},
        "workers": {"replicas": 3},
    },
}


def submitted(run: Any) -> subprocess.Popen[str]:
    """`fl-submit run` of the toy program, into the folder `submitted`."""
    job = run.program / "job.yaml"
    job.write_text(yaml.safe_dump(JOB))
    line = [sys.executable, "-m", "job_generator.cli", "run", str(job), "--folder", str(folder(run))]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def folder(run: Any) -> Path:
    """The run's folder."""
    return Path(run.folder / "submitted")


def state(run: Any) -> Any:
    """What `run.json` says."""
    return json.loads((folder(run) / "run.json").read_text())


def model(run: Any) -> bytes:
    """The final model's file."""
    return (folder(run) / "storage" / "models" / "last.safetensors").read_bytes()


def heard(process: subprocess.Popen[str], word: str) -> str:
    """What a process prints, as far as the line with this word."""
    said = ""
    while word not in said:
        line = process.stdout.readline()  # type: ignore[union-attr]
        assert line, f"{word!r} was not said: {said}"
        said += line
    return said


@pytest.fixture
def undisturbed(job: Callable[..., Any]) -> bytes:
    """The model of the same job when nobody disturbs it."""
    run = job()
    run.release()
    with submitted(run) as process:
        assert process.wait(60) == 0, process.communicate()
    return model(run)


@pytest.mark.parametrize("role", ["server", "scheduler", "worker-1"])
def test_a_killed_process_is_started_again(job: Callable[..., Any], undisturbed: bytes, role: str) -> None:
    """Killed while workers train, each role comes back: the run is Complete, its model the same to the byte."""
    run = job()
    with submitted(run) as process:
        run.wait_held()
        pid = state(run)["pids"][role]
        os.kill(pid, signal.SIGKILL)
        said = heard(process, f"{role} crashed (it was killed (SIGKILL)")
        run.release()
        said += process.communicate(timeout=60)[0]
    assert (process.returncode, state(run)["state"]) == (0, "Complete"), said
    assert [line.split()[1] for line in said.splitlines() if line.startswith("round ")] == [
        f"{number}/5" for number in range(1, 6)
    ]
    assert model(run) == undisturbed
