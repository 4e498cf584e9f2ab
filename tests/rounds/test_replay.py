"""A run that lost a worker, and a run that follows its record: the same models, byte for byte."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from job_generator.local.folder import RunFolder
from tests.job_generator.conftest import fetched_from
from tests.rounds.conftest import PATIENCE, Run, until
from tests.rounds.submitted import model, rows, spawned, state, written

pytestmark = pytest.mark.rounds

SECURE = {"enabled": True}
PLAIN = {"enabled": False}


def spec(secure: dict[str, Any]) -> dict[str, Any]:
    """Five workers, of whom four are asked and three suffice; nobody who is killed comes back."""
    return {
        "seed": 3,
        "rounds": 6,
        "program": {"entrypoint": "toy:task", "framework": "numpy", "config": {"gate": 2}},
        "selection": {"perRound": 4, "minimum": 3, "deadlineSeconds": 60, "stallSeconds": 60},
        "workers": {"replicas": 5, "restartsPerWorker": 0},
        "secureAggregation": secure,
    }


def trained(run: Run) -> Path:
    """The folder of a run that nothing disturbed."""
    folder = run.folder / "before"
    run.release()
    with spawned("run", written(run, spec(PLAIN)), "--folder", folder) as process:
        assert process.wait(2 * PATIENCE) == 0
    return folder


@pytest.fixture(params=[PLAIN, SECURE], ids=["plain", "secure"])
def disturbed(job: Callable[..., Run], request: pytest.FixtureRequest) -> tuple[Run, Path]:
    """A run in which worker-1 was killed while it trained, and its folder."""
    run = job()
    folder = run.folder / "disturbed"
    with spawned("run", written(run, spec(request.param)), "--folder", folder) as process:
        run.wait_held()
        os.kill(state(folder)["pids"]["worker-1"], signal.SIGKILL)
        run.release()
        said = process.communicate(timeout=2 * PATIENCE)[0]
    assert process.returncode == 0, said
    return run, folder


def test_a_replay_makes_the_same_models(disturbed: tuple[Run, Path]) -> None:
    """The cohorts are those whose updates were in the models, the lost worker's not among them; so are the bytes."""
    run, before = disturbed
    lost = [row for row in rows(before) if "worker-1" in row["dropouts"]]
    assert lost
    assert set(lost[0]["cohort"]) - set(lost[0]["reporters"]) == {"worker-1"}
    after = run.folder / "after"
    with spawned("run", "--replay", before, "--folder", after) as process:
        said = process.communicate(timeout=2 * PATIENCE)[0]
    assert process.returncode == 0, said
    assert "✓ 6 rounds replayed: the same models, byte for byte" in said
    assert model(after) == model(before)
    told, again = rows(before), rows(after)
    assert [row["model"] for row in again] == [row["model"] for row in told]
    assert [row["cohort"] for row in again] == [sorted(row["reporters"]) for row in told]


def test_the_record_of_a_job_on_a_cluster_is_replayed(disturbed: tuple[Run, Path]) -> None:
    """From its lines, its plan and the job alone, with the job file and a copy of the data: the same bytes. Without the
    data it is refused, and nothing is made.
    """
    run, before = disturbed
    told, last = rows(before), model(before)
    workers = {"replicas": 5, "restartsPerWorker": 0, "data": {"claimName": "shards", "subPath": "{index}"}}
    record, after = (
        fetched_from(RunFolder(before), run.folder / "record", workers=workers),
        run.folder / "after",
    )
    shutil.rmtree(before)
    words = ["run", run.program / "job.yaml", "--replay", record, "--folder", after]
    with spawned(*words) as process:
        said = process.communicate(timeout=PATIENCE)[0]
    assert (process.returncode, after.exists()) == (65, False)
    assert "spec.workers.data: on the cluster workers read the claim shards; give a copy" in said
    for index in range(5):
        (run.folder / "shards" / str(index)).mkdir(parents=True)
    with spawned(*words, "--data", run.folder / "shards" / "{index}") as process:
        said = process.communicate(timeout=2 * PATIENCE)[0]
    assert process.returncode == 0, said
    assert "✓ 6 rounds replayed: the same models, byte for byte" in said
    assert model(after) == last
    assert [row["model"] for row in rows(after)] == [row["model"] for row in told]


def test_a_worker_that_is_lost_for_good_ends_a_replay(job: Callable[..., Run]) -> None:
    """Its updates are in the models, so nothing could be the same; the sentence says who and why."""
    run = job()
    before, after = trained(run), run.folder / "after"
    with spawned("run", "--replay", before, "--folder", after) as process:
        started = lambda: (after / "run.json").exists() and state(after)["pids"].get("worker-1")  # noqa: E731
        os.kill(until(started, what="worker-1"), signal.SIGKILL)
        said = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode not in {0, None}, said
    assert "worker-1" in said
    assert "the record that is replayed has its updates, so the run ends" in said


def test_another_program_is_not_replayed(job: Callable[..., Run]) -> None:
    """Changed files end with a sentence and the code of what does not fit, and no run folder is made."""
    run = job()
    before, after = trained(run), run.folder / "after"
    (run.program / "toy.py").write_text((run.program / "toy.py").read_text() + "\n# better\n")
    with spawned("run", "--replay", before, "--folder", after) as process:
        said = process.communicate(timeout=PATIENCE)[0]
    assert (process.returncode, after.exists()) == (67, False)
    assert "is not the one that" in said
