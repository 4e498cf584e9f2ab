"""Whole runs that are stopped, suspended and resumed from another terminal, or that lose a process to SIGTERM."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.rounds.submitted import fl_submit, folder, heard, model, rows, state, submitted

pytestmark = pytest.mark.rounds

Build = Callable[..., Any]

MORE: dict[str, Any] = {"suspendGraceSeconds": 0, "server": {"checkpoint": {"everyRounds": 2}}}


ROUND_5 = "round-00000005.safetensors"


def started(run: Any) -> subprocess.Popen[str]:
    """A run with a checkpoint every other round, and no grace for the open one when it is suspended."""
    return submitted(run, **MORE)


def rounds(run: Any) -> list[int]:
    """The numbers of the recorded rounds."""
    return [row["round"] for row in rows(folder(run))]


def say(run: Any, command: str) -> subprocess.CompletedProcess[str]:
    """A command about the run, from another terminal."""
    return subprocess.run(
        fl_submit(command, folder(run)), capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def undisturbed(job: Build) -> bytes:
    """The model of the same job when nobody disturbs it."""
    run = job()
    run.release()
    with started(run) as process:
        assert process.wait(60) == 0, process.communicate()
    return model(folder(run))


@pytest.mark.parametrize("role", ["server", "scheduler", "worker-1"])
def test_sigterm_loses_nothing_that_was_committed(job: Build, undisturbed: bytes, role: str) -> None:
    """Each role ends with 143 and is started again; the run is Complete, its model the same to the byte."""
    run = job()
    with started(run) as process:
        run.wait_held()
        assert rounds(run) == [1, 2]
        os.kill(state(folder(run))["pids"][role], signal.SIGTERM)
        heard(process, f"{role} crashed")
        run.release()
        told = process.communicate(timeout=60)[0]
    assert (process.returncode, state(folder(run))["state"]) == (0, "Complete"), told
    assert rounds(run) == [1, 2, 3, 4, 5]
    assert model(folder(run)) == undisturbed


def test_what_stages_remember_outlives_a_worker(job: Build) -> None:
    """Rounding errors are handed in once, by the worker that was killed and by that of a run that was resumed."""
    half = {"compression": [{"name": "float16"}], "secureAggregation": {"enabled": False}}
    models = []
    for disturbed in (False, True):
        run = job()
        with submitted(run, **half) as process:
            run.wait_held()
            if disturbed:
                os.kill(state(folder(run))["pids"]["worker-1"], signal.SIGKILL)
                heard(process, "worker-1 crashed")
                process.terminate()
                process.communicate(timeout=60)
            run.release()
            if disturbed:
                assert say(run, "resume").returncode == 0
            else:
                assert process.wait(60) == 0, process.communicate()
        assert rounds(run) == [1, 2, 3, 4, 5]
        models.append(model(folder(run)))
        assert max(path.name for path in (folder(run) / "states" / "worker-1").iterdir()) == ROUND_5
    assert models[0] == models[1]


def test_a_run_is_suspended_and_resumed(job: Build, undisturbed: bytes) -> None:
    """A round that does not end within the grace is begun again: the final model is the same to the byte."""
    run = job()
    with started(run) as process:
        run.wait_held()
        told = say(run, "suspend")
        assert told.returncode == 0, told.stderr
        process.communicate(timeout=60)
    assert (process.returncode, state(folder(run))["state"], state(folder(run))["pids"]) == (
        143,
        "Suspended",
        {},
    )
    assert say(run, "suspend").returncode == 64
    run.release()
    again = say(run, "resume")
    assert (again.returncode, state(folder(run))["state"]) == (0, "Complete"), again.stdout + again.stderr
    assert rounds(run) == [1, 2, 3, 4, 5]
    assert model(folder(run)) == undisturbed


def test_a_run_is_stopped_and_resumed(job: Build, undisturbed: bytes) -> None:
    """The open round ends and is kept, though no checkpoint was due; a second wish changes nothing."""
    run = job()
    with started(run) as process:
        run.wait_held()
        assert say(run, "stop").returncode == say(run, "stop").returncode == 0
        heard(process, "Finishing: this round ends and the model is written.")
        run.release()
        process.communicate(timeout=60)
    assert (process.returncode, state(folder(run))["state"], rounds(run)) == (0, "Stopped", [1, 2, 3])
    assert (folder(run) / "storage" / "checkpoints" / "round-0000003.safetensors").exists()
    again = say(run, "resume")
    assert (again.returncode, state(folder(run))["state"]) == (0, "Complete"), again.stdout + again.stderr
    assert rounds(run) == [1, 2, 3, 4, 5]
    assert model(folder(run)) == undisturbed


def test_another_program_does_not_go_on(job: Build) -> None:
    """The sentence says what has changed, and what to type: put it back, fork, or start anew."""
    run = job()
    with started(run) as process:
        run.wait_held()
        say(run, "suspend")
        process.communicate(timeout=60)
    toy = run.program / "toy.py"
    toy.write_text(toy.read_text() + "\n# another one\n")
    before = model_files(run)
    refused = say(run, "resume")
    assert refused.returncode == 67
    for words in (
        "has changed since this run began",
        "put the old files back",
        "--from-round 2",
        "start a new run",
    ):
        assert words in refused.stderr
    assert model_files(run) == before


def model_files(run: Any) -> dict[Path, bytes]:
    """All that the run's server keeps."""
    return {path: path.read_bytes() for path in (folder(run) / "storage").rglob("*") if path.is_file()}
