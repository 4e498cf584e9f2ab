"""Whole jobs of `fl-submit run` that lose a process by SIGKILL in the middle of a round."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fl_core.models import checkpoints
from fl_core.weights import digest
from fl_server.checkpoints import read, write
from tests.rounds.submitted import SPEC, fl_submit, folder, heard, model, rows, state, submitted

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


def test_damage_ends_the_run_until_it_is_mended(job: Callable[..., Any], undisturbed: bytes) -> None:
    """A server that finds its record changed is not started again; with a copy put back the run goes on to its end."""
    run = job()
    with submitted(run) as process:
        run.wait_held()
        record = folder(run) / "storage" / "metrics.jsonl"
        whole = record.read_bytes()
        record.write_bytes(whole.replace(b'"Committed"', b'"Skipped"', 1))
        os.kill(state(folder(run))["pids"]["server"], signal.SIGKILL)
        said = process.communicate(timeout=60)[0]
    assert process.returncode == 72, said
    assert said.count("server crashed") == 1
    assert "metrics.jsonl is damaged: line 1 (round 1)" in said
    assert "fl-submit fork RUN|JOB --from-round 2" in said
    assert f"mended:  fl-submit run --resume {folder(run)}" in said
    record.write_bytes(whole)
    run.release()
    again = subprocess.run(
        fl_submit("run", "--resume", folder(run)), capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert model(folder(run)) == undisturbed


def test_a_checkpoint_with_other_weights_is_not_trained_on(job: Callable[..., Any]) -> None:
    """Written anew as the server writes them, it is passed over and told; its round is made again, the same."""
    run = job()
    with submitted(run, secureAggregation={"enabled": False}) as process:
        run.wait_held()
        newest = next(iter(checkpoints(folder(run) / "storage" / "checkpoints").values()))
        whole = read(newest)
        weights = {name: array + 1 for name, array in whole.weights.items()}
        forged = replace(whole, weights=weights, digest=digest(weights))
        write(newest, replace(forged, facts={**whole.facts, "digest": forged.digest}))
        os.kill(state(folder(run))["pids"]["server"], signal.SIGKILL)
        said = heard(process, "while the record has")
        run.release()
        said += process.communicate(timeout=60)[0]
    assert process.returncode == 0, said
    assert f"{newest.name} is the model {forged.digest[:12]}, while the record has" in said
    lines = rows(folder(run))
    assert [(row["round"], row["result"] == "Restored") for row in lines] == [
        *((1, False), (2, False), (1, True)),
        *((number, False) for number in range(2, 6)),
    ]
    assert lines[2]["refused"] == [forged.digest]
    assert lines[1]["model"] == lines[3]["model"]


def test_rounds_since_the_newest_checkpoint_are_made_again(job: Callable[..., Any]) -> None:
    """With a checkpoint of every fifth round a server killed in round 7 goes back to 5 and says so; models are kept."""
    more = {
        "rounds": 7,
        "program": {**SPEC["program"], "config": {"gate": 7}},
        "secureAggregation": {"enabled": False},
        "server": {"checkpoint": {"everyRounds": 5}},
    }
    undisturbed, run = job(), job()
    undisturbed.release()
    with submitted(undisturbed, **more) as process:
        assert process.wait(60) == 0, process.communicate()
    with submitted(run, **more) as process:
        run.wait_held()
        os.kill(state(folder(run))["pids"]["server"], signal.SIGKILL)
        said = heard(process, "server crashed")
        run.release()
        said += process.communicate(timeout=60)[0]
    assert process.returncode == 0, said
    assert said.count("went back to that of round 5; later rounds are given up") == 1, said
    whole, again = rows(folder(undisturbed)), rows(folder(run))
    assert [(row["round"], row["result"]) for row in again] == [
        *((number, "Committed") for number in range(1, 7)),
        (5, "Restored"),
        *((number, "Committed") for number in (6, 7)),
    ]
    made = [row["model"] for row in whole]
    assert [row["model"] for row in again] == [*made[:6], made[4], *made[5:]]
    assert model(folder(run)) == model(folder(undisturbed))
