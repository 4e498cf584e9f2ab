"""A whole job of `fl-submit run` whose storage is in a bucket: its folder may go, and its server, too."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.moto import ABSENT, MOTO, SECRET, Moto
from tests.rounds.submitted import fl_submit, folder, model, rows, state, submitted

pytestmark = [pytest.mark.rounds, pytest.mark.skipif(not MOTO.exists(), reason=ABSENT)]


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[Moto]:
    """S3 with an empty bucket, and an environment that leads to it."""
    server = Moto()
    server.ask("PUT", "jobs")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield server
    server.stop()


def test_a_store_that_refuses_from_the_start(job: Callable[..., Any], moto: Moto) -> None:
    """Without its bucket a run ends at once, for good, and says what to do; with it the same run goes on."""
    run = job()
    run.release()
    with submitted(run, server={"storage": {"uri": "s3://later/toy"}}) as process:
        said = process.communicate(timeout=60)[0]
    assert (process.returncode, "crashed" in said) == (72, False), said
    assert "s3://later/toy cannot be used (404 NoSuchBucket); the bucket must be there" in said
    assert f"mended:  fl-submit run --resume {folder(run)}" in said
    moto.ask("PUT", "later")
    subprocess.run(fl_submit("run", "--resume", folder(run)), check=True)
    assert [row["round"] for row in rows(folder(run))] == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("moto")
def test_a_killed_server_goes_on_from_the_store(job: Callable[..., Any]) -> None:
    """Killed while workers train, its folder deleted, a server ends the job with the same model and each round once."""
    undisturbed, run = job(), job()
    undisturbed.release()
    with submitted(undisturbed) as process:
        assert process.wait(90) == 0, process.communicate()
    kept = {"uri": "s3://jobs/toy", "secretName": "keys"}
    with submitted(run, server={"storage": kept}) as process:
        run.wait_held()
        os.kill(state(folder(run))["pids"]["server"], signal.SIGKILL)
        shutil.rmtree(folder(run) / "storage")
        run.release()
        said = process.communicate(timeout=90)[0]
    assert process.returncode == 0, said
    assert "server crashed" in said
    assert "left aside here: spec.server.storage.secretName." in said
    assert model(folder(run)) == model(folder(undisturbed))
    assert [row["round"] for row in rows(folder(run))] == [1, 2, 3, 4, 5]
    files = [path for path in folder(run).rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    subprocess.run(fl_submit("record", "verify", folder(run)), check=True)
    shutil.rmtree(folder(run) / "storage")
    changes = ("--set", "rounds=6", "--set", "server.storage.uri=s3://jobs/toy-2")
    more = ("--from-round", 5, *changes, "--dry-run")
    subprocess.run(fl_submit("fork", folder(run), *more), check=True, stdout=subprocess.DEVNULL)
    assert model(folder(run)) == model(folder(undisturbed))
