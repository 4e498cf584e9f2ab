"""Whole runs that are forked by `fl-submit fork`: what they take over, and what they refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fl_core.weights import digest
from fl_server.checkpoints import read

pytestmark = pytest.mark.rounds

Build = Callable[..., Any]
Fork = Callable[..., subprocess.CompletedProcess[str]]

SPEC: dict[str, Any] = {
    "seed": 1,
    "rounds": 6,
    "program": {"entrypoint": "toy:task", "framework": "numpy"},
    "strategy": {"name": "momentum:Momentum", "beta": 0.5},
    "selection": {"minimum": 3, "deadlineSeconds": 60, "stallSeconds": 60},
    "server": {"checkpoint": {"keep": 3}},
    "workers": {"replicas": 3},
}
PRIVATE = {
    "mechanism": {"name": "gaussian", "clip": 1.0, "noiseMultiplier": 2.0},
    "budget": {"epsilon": 50, "delta": 1e-5},
}


def submit(run: Any, *words: str) -> subprocess.CompletedProcess[str]:
    """`fl-submit` with these words, where the toy's strategy can be imported."""
    path = f"{run.folder}:{os.environ.get('PYTHONPATH', '')}"
    line = [sys.executable, "-m", "job_generator.cli", *words]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=120, env=environment)


@pytest.fixture
def parent(job: Build) -> Callable[..., Any]:
    """A run of six rounds, in the folder `parent`, with changes to its spec."""

    def made(**changes: Any) -> Any:
        run = job()
        run.release()
        document = {
            "apiVersion": "fljob.dev/v1alpha1",
            "kind": "FLJob",
            "metadata": {"name": "toy"},
            "spec": {**SPEC, **changes},
        }
        file = run.program / "job.yaml"
        file.write_text(yaml.safe_dump(document))
        done = submit(run, "run", str(file), "--folder", str(run.folder / "parent"))
        assert done.returncode == 0, done.stdout + done.stderr
        return run

    return made


def forked(run: Any, number: int, *changes: str, folder: str = "child", **more: str) -> Any:
    """A fork of the parent, into this folder."""
    sets = [word for change in changes for word in ("--set", change)]
    options = [word for name, value in more.items() for word in (f"--{name}", value)]
    place = ["--folder", str(run.folder / folder)]
    return submit(
        run, "fork", str(run.folder / "parent"), "--from-round", str(number), *sets, *place, *options
    )


def rows(run: Any, folder: str = "child") -> list[dict[str, Any]]:
    """The recorded rounds of a run."""
    record = run.folder / folder / "storage" / "metrics.jsonl"
    return [json.loads(line) for line in record.read_text().splitlines()]


def test_a_fork_that_changes_nothing_ends_as_its_parent(parent: Callable[..., Any]) -> None:
    """Rounds are counted on, what the strategy remembers is taken over, and the final model is the same to the bit."""
    run = parent()
    before = {path: path.read_bytes() for path in (run.folder / "parent").rglob("*") if path.is_file()}
    done = forked(run, 4)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["round"] for row in rows(run)] == [5, 6]
    assert [row["model"] for row in rows(run)] == [row["model"] for row in rows(run, "parent")[4:]]
    state = json.loads((run.folder / "child" / "run.json").read_text())
    own, theirs = (json.loads((run.folder / name / "plan.json").read_text()) for name in ("child", "parent"))
    assert state["parent"] == {
        "uid": theirs["job"]["uid"],
        "folder": str(run.folder / "parent"),
        "round": 4,
    }
    assert own["job"]["uid"] != theirs["job"]["uid"]
    assert {path: path.read_bytes() for path in before} == before


def test_a_fork_may_go_further_in_another_way(parent: Callable[..., Any]) -> None:
    """More rounds, another strategy and another name; what the old strategy remembered is said to begin anew."""
    run = parent()
    done = forked(run, 5, "rounds=8", "strategy={name: fedavg}", name="toy-2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "note: what spec.strategy remembers begins anew, as it is another one in the fork" in done.stderr
    assert [row["round"] for row in rows(run)] == [6, 7, 8]
    written = yaml.safe_load((run.folder / "child" / "job.yaml").read_text())
    assert (written["metadata"]["name"], written["spec"]["strategy"]["name"]) == ("toy-2", "fedavg")
    again = submit(run, "fork", str(run.folder / "child"), "--from-round", "7", "--dry-run")
    assert again.returncode == 0, again.stderr
    assert yaml.safe_load(again.stdout)["spec"]["initialModel"]["round"] == 7
    sets = ("--set", "workers.replicas=2", "--set", "selection.minimum=2")
    few = submit(run, "fork", str(run.folder / "child"), "--from-round", "7", *sets, "--dry-run")
    assert (few.returncode, "note: secure aggregation is off" in few.stderr) == (0, True), few.stderr


def test_epsilon_never_falls_over_a_fork(parent: Callable[..., Any]) -> None:
    """All that the parent spent, after the fork's round too, counts from the fork's first round."""
    run = parent(privacy=PRIVATE, strategy={"name": "fedavg"})
    spent = rows(run, "parent")[-1]["privacy"]["epsilon"]
    done = forked(run, 4)
    assert done.returncode == 0, done.stdout + done.stderr
    told = [row["privacy"]["epsilon"] for row in rows(run)]
    assert spent < told[0] < told[1]
    entries = (run.folder / "child" / "storage" / "privacy.jsonl").read_text().splitlines()
    assert len(entries) == 1 + 6 + 2
    for change, words in (
        ("privacy=null", "keep spec.privacy in the fork"),
        ("privacy.budget.epsilon=5", "epsilon"),
    ):
        refused = forked(run, 4, change, folder="refused")
        assert refused.returncode != 0
        assert words in refused.stderr + refused.stdout


@pytest.fixture
def refusals() -> list[tuple[int, list[str], int, str]]:
    """Round, changes, exit code, and what is said."""
    return [
        (1, [], 64, "has no checkpoint of round 1, but of rounds 4, 5 and 6"),
        (9, [], 64, "has no checkpoint of round 9, but of rounds 4, 5 and 6"),
        (4, ["rounds=4"], 65, "spec.rounds: 4 counts all rounds"),
        (6, [], 65, "none is left to train; add --set rounds=7, or more"),
        (4, ["stratgy.name=fedavg"], 65, "there is no such field (did you mean strategy?)"),
        (4, ["workers.replicas=2"], 65, "spec.selection.minimum: 3 is more than the cohort"),
        (4, ["program.entrypoint=wide:task"], 67, "array w float32[5] should be w float32[7]"),
        (4, [f"privacy={json.dumps(PRIVATE)}"], 67, "no epsilon holds for a model that goes on"),
        (4, ["metadata.name=x"], 65, "metadata.name is not for a fork to change"),
    ]


def test_what_cannot_be_is_refused(
    parent: Callable[..., Any], refusals: list[tuple[int, list[str], int, str]]
) -> None:
    """Each ends with a sentence, before anything is made or changed."""
    run = parent()
    wide = (
        (run.program / "toy.py")
        .read_text()
        .replace("np.zeros(5", "np.zeros(7")
        .replace("arange(5)", "arange(7)")
    )
    (run.program / "wide.py").write_text(wide)
    before = {path: path.read_bytes() for path in (run.folder / "parent").rglob("*") if path.is_file()}
    for number, changes, code, words in refusals:
        refused = forked(run, number, *changes)
        assert (refused.returncode, words in refused.stderr) == (code, True), (words, refused.stderr)
        assert not (run.folder / "child").exists()
    damaged = run.folder / "parent" / "storage" / "checkpoints" / "round-0000004.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-2] ^= 1
    damaged.write_bytes(content)
    assert "damaged" in forked(run, 4).stderr
    damaged.write_bytes(before.pop(damaged))
    assert {path: path.read_bytes() for path in before} == before


def test_a_fork_is_resumed_as_any_run(parent: Callable[..., Any], tmp_path: Path) -> None:
    """A fork whose server is started again goes on from its own checkpoints, and needs nothing of its parent."""
    run = parent()
    done = forked(run, 4)
    assert done.returncode == 0, done.stderr
    child = run.folder / "child"
    state = json.loads((child / "run.json").read_text())
    (child / "run.json").write_text(json.dumps({**state, "state": "Stopped"}))
    (run.folder / "parent").rename(tmp_path / "elsewhere")
    (child / "parent").rename(tmp_path / "elsewhere-too")
    again = submit(run, "run", "--resume", str(child))
    assert again.returncode == 0, again.stdout + again.stderr
    last = read(child / "storage" / "models" / "last.safetensors")
    assert digest(last.weights) == rows(run)[-1]["model"]
    assert len(rows(run)) == 2
