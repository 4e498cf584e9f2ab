"""A whole job of `fl-submit run` whose storage is in a bucket: its folder may go, and its server, too."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.moto import ABSENT, MOTO, SECRET, Moto

pytestmark = [pytest.mark.rounds, pytest.mark.skipif(not MOTO.exists(), reason=ABSENT)]


@pytest.fixture
def moto() -> Iterator[Moto]:
    """S3 with an empty bucket."""
    server = Moto()
    server.ask("PUT", "jobs")
    yield server
    server.stop()


def submitted(run: Any, moto: Moto, uri: str | None) -> subprocess.Popen[str]:
    """`fl-submit run` of the toy program, into the folder `submitted`."""
    spec = {
        "seed": 1,
        "rounds": 5,
        "program": {"entrypoint": "toy:task", "framework": "numpy", "config": {"gate": 3}},
        "selection": {"minimum": 3, "deadlineSeconds": 60, "stallSeconds": 60},
        "server": {"storage": {"uri": uri, "secretName": "keys"} if uri else {}},
        "workers": {"replicas": 3},
    }
    job = {"apiVersion": "fljob.dev/v1alpha1", "kind": "FLJob", "metadata": {"name": "toy"}, "spec": spec}
    (run.program / "job.yaml").write_text(yaml.safe_dump(job))
    line = [sys.executable, "-m", "job_generator.cli", "run", str(run.program / "job.yaml")]
    return subprocess.Popen(
        [*line, "--folder", str(run.folder / "submitted")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **moto.environment},
    )


def model(run: Any) -> bytes:
    """The final model's file."""
    return Path(run.folder / "submitted" / "storage" / "models" / "last.safetensors").read_bytes()


def test_a_killed_server_goes_on_from_the_store(job: Callable[..., Any], moto: Moto) -> None:
    """Killed while workers train, its folder deleted, a server ends the job with the same model and each round once."""
    undisturbed, run = job(), job()
    undisturbed.release()
    with submitted(undisturbed, moto, None) as process:
        assert process.wait(90) == 0, process.communicate()
    with submitted(run, moto, "s3://jobs/toy") as process:
        run.wait_held()
        state = json.loads((run.folder / "submitted" / "run.json").read_text())
        os.kill(state["pids"]["server"], signal.SIGKILL)
        shutil.rmtree(run.folder / "submitted" / "storage")
        run.release()
        said = process.communicate(timeout=90)[0]
    assert process.returncode == 0, said
    assert "server crashed" in said
    assert "left aside here: spec.server.storage.secretName." in said
    assert model(run) == model(undisturbed)
    storage = run.folder / "submitted" / "storage"
    rows = [json.loads(line) for line in (storage / "metrics.jsonl").read_text().splitlines()]
    assert [row["round"] for row in rows] == [1, 2, 3, 4, 5]
    files = [path for path in (run.folder / "submitted").rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    verify = [sys.executable, "-m", "job_generator.cli", "record", "verify", str(run.folder / "submitted")]
    subprocess.run(verify, check=True)
