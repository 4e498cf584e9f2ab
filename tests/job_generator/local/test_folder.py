from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest

from fl_core.errors import MismatchError, StorageError, UnavailableError
from fl_core.plan import Plan
from job_generator.local.folder import RunFolder, RunState, new_folder, run_folders, write_atomically

NOON = dt.datetime(2026, 1, 2, 12, tzinfo=dt.UTC)


def a_run(path: Path, plan: Plan, *, started: dt.datetime = NOON) -> RunFolder:
    folder = RunFolder(path)
    folder.prepare(job="kind: FLJob\n", plan=plan)
    folder.write(RunState(job="digits", started=started, program="here", restarts=3))
    return folder


def test_name(tmp_path: Path) -> None:
    """A run's folder is named after its job and start; a second one in that second gets a number."""
    first = new_folder("digits", now=NOON, runs=tmp_path)
    first.path.mkdir()
    second = new_folder("digits", now=NOON, runs=tmp_path)
    assert (first.path.name, second.path.name) == ("digits-20260102-120000", "digits-20260102-120000-2")


def test_occupied_folder(tmp_path: Path, a_plan: Callable[..., Plan]) -> None:
    """A folder that holds something is never written over."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match="not empty; choose another --folder$"):
        RunFolder(tmp_path).prepare(job="", plan=a_plan())


def test_state_survives(tmp_path: Path, a_plan: Callable[..., Plan]) -> None:
    """What is written to run.json is read again, while the run holds its folder."""
    folder = a_run(tmp_path / "run", a_plan())
    with folder.hold():
        assert folder.state().state == "Running"
        assert folder.state().started == NOON


def test_interrupted(tmp_path: Path, a_plan: Callable[..., Plan]) -> None:
    """A run that says it is running but holds nothing was interrupted."""
    assert a_run(tmp_path / "run", a_plan()).state().state == "Interrupted"


def test_hold_once(tmp_path: Path, a_plan: Callable[..., Plan]) -> None:
    """Two runs never share a folder at one time; afterwards it is free again."""
    folder = a_run(tmp_path / "run", a_plan())
    with folder.hold():
        assert folder.held()
        with pytest.raises(UnavailableError, match="is running now"), folder.hold():
            pass
    assert not folder.held()


def test_no_run_folder(tmp_path: Path) -> None:
    """A folder that is none says how runs are found."""
    with pytest.raises(MismatchError, match="fl-submit list"):
        RunFolder(tmp_path).state()


def test_listing(tmp_path: Path, a_plan: Callable[..., Plan]) -> None:
    """Runs are listed newest first, and other folders are passed over."""
    a_run(tmp_path / "old", a_plan(), started=NOON - dt.timedelta(days=1))
    a_run(tmp_path / "new", a_plan())
    (tmp_path / "other").mkdir()
    assert [folder.path.name for folder in run_folders(tmp_path)] == ["new", "old"]


def test_atomic_write(tmp_path: Path) -> None:
    """A write that fails leaves neither a damaged file nor a temporary one."""
    (tmp_path / "run.json").mkdir()
    with pytest.raises(StorageError):
        write_atomically(tmp_path / "run.json", "{}")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
