"""Wherever in a commit the power is cut, what is found is the state before or the one after, and the job goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fl_core.extensions import Extension
from fl_core.plan import Plan, Privacy
from fl_server.checkpoints import read
from fl_server.storage import Storage
from tests.conftest import plan_of
from tests.fl_server.powercut import LOSSES, ROUNDS, check, commits

ROOT = Path(__file__).parents[2]


def private_plan() -> Plan:
    mechanism = Extension(name="gaussian", options={"clip": 1.0, "noise_multiplier": 4.0})
    own = Privacy(unit="worker", mechanism=mechanism, epsilon=50.0, delta=1e-5, corrupt=1, measured=True)
    return plan_of(rounds=ROUNDS, privacy=own)


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of storages: one for each system call and loss."""
    folder = tmp_path_factory.mktemp("cuts")
    (folder / "plan.json").write_text(private_plan().to_json())
    line = [sys.executable, "-m", "tests.fl_server.powercut", str(folder)]
    subprocess.run(line, check=True, timeout=240, cwd=ROOT)
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read back by the same machine need not be on its disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def said(file: Path) -> dict[str, int]:
    """The last round of which each thing was acknowledged."""
    words = [line.split() for line in file.read_text().splitlines()]
    return {word: int(number) for word, number in words}


def storages(cuts: Path, loss: str) -> list[tuple[dict[str, int], Path]]:
    """What was acknowledged, and what was left, for each call."""
    word = "after" if loss == "after" else "said"
    return [
        (said(cuts / one.name.partition("-")[0] / word), one)
        for one in sorted(cuts.glob(f"*-{loss}"), reverse=True)
    ]


@pytest.mark.parametrize("loss", LOSSES)
def test_the_old_or_the_new_state_is_found(cuts: Path, loss: str) -> None:
    """Each thing that was acknowledged is there, at most one more is, and what follows was never before its cause."""
    found = storages(cuts, loss)
    assert len(found) > 90
    for told, folder in found:
        storage, plan = Storage(folder, private_plan()), private_plan()
        check(storage, plan, told, where=folder.name)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.usefixtures("quick")
def test_a_job_goes_on_and_ends_the_same(cuts: Path, loss: str, tmp_path: Path) -> None:
    """Whatever was lost, the next server does the rest, and models and record are those of a job nobody disturbed."""
    assert list(commits(tmp_path / "undisturbed", private_plan()))[-1] == f"last {ROUNDS}"
    kept = ("metrics.jsonl", "models/last.safetensors", "models/best.safetensors")
    expected = [(tmp_path / "undisturbed" / name).read_bytes() for name in kept]
    for _, folder in storages(cuts, loss):
        assert list(commits(folder, private_plan()))[-1] == f"last {ROUNDS}"
        assert [(folder / name).read_bytes() for name in kept] == expected, folder.name
        assert read(max((folder / "checkpoints").iterdir())).facts["round"] == ROUNDS
        assert not list(folder.rglob("*.partial"))
