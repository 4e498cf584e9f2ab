"""A run whose storage is in a store of objects is read after its copy on this machine was lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from job_generator.cli.__main__ import main
from job_generator.local.folder import RunFolder


def submit(*words: object) -> Any:
    """`fl-submit` with these words."""
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A mounted folder."""
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def lost(finished: Callable[..., RunFolder], store: Path) -> RunFolder:
    """A run that is complete, and of whose storage nothing is left in its folder."""
    run = finished(3, store=f"file://{store}")
    shutil.rmtree(run.storage)
    return run


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_reads_a_run_reads_its_store(lost: RunFolder, store: Path, tmp_path: Path) -> None:
    """Model and record come from the store, which stays as it is, and nothing is left of the copies."""
    before = contents(store)
    made = submit("model", lost.path, "-o", tmp_path / "model.npz")
    assert made.exit_code == 0, made.stderr
    assert np.load(tmp_path / "model.npz")["w"].tolist() == [3, 3, 3]
    assert len(json.loads(submit("record", "show", lost.path, "--output", "json").stdout)) == 3
    verified = submit("record", "verify", lost.path)
    assert verified.stdout.startswith("3 lines of 3 rounds are one chain, signed by"), verified.stderr
    assert f"file://{store} is read, as there is no copy of it in {lost.storage}" in verified.stderr
    assert submit("record", "export", lost.path, "-o", tmp_path / "s.json").exit_code == 0
    assert "Round 2 was committed" in submit("explain", lost.path, "--round", 2).stdout
    assert (contents(store), contents(lost.storage)) == (before, {})


@pytest.mark.parametrize("words", ["status", "explain"])
def test_where_a_run_stands_says_what_brings_it_back(lost: RunFolder, words: str) -> None:
    """Nobody is told that no round was committed, and the command is named."""
    said = submit(words, lost.path).stdout
    assert "no copy of its storage in" in said
    assert f"`fl-submit run --resume {lost.path}` brings it back" in said
    assert "No round was committed" not in said
    assert "0 were committed" not in said
    assert json.loads(submit("status", lost.path, "--output", "json").stdout)["rounds"] is None
    assert "?/3" in submit("list", "--runs", lost.path.parent).stdout


def test_a_complete_run_is_brought_back(lost: RunFolder, store: Path) -> None:
    """`run --resume` trains nothing and makes the folder what was kept; a second time there is nothing to do."""
    before = contents(store)
    done = submit("run", "--resume", lost.path)
    assert done.exit_code == 0, done.stderr
    assert "is complete, and its storage is here again" in done.stdout
    assert "after 3 rounds" in submit("status", lost.path).stdout
    assert submit("record", "verify", lost.path).stderr == ""
    assert "here again" not in submit("run", "--resume", lost.path).stdout
    assert contents(store) == before
    assert not list(lost.path.glob(".storage*"))


def test_a_store_that_cannot_be_read_is_told(lost: RunFolder, store: Path) -> None:
    """The sentence and the exit code are those of whoever reads it, and nothing half is in the run's folder."""
    store.rename(store.with_name("away"))
    for words in (("record", "show"), ("run", "--resume")):
        done = submit(*words, lost.path)
        assert (done.exit_code, "is no folder; mount what it is on" in done.stderr) == (74, True)
    assert not contents(lost.storage)
    store.with_name("away").rename(store)
    next(store.glob("objects/*/*")).parent.rename(store / "objects" / "gone")
    assert submit("run", "--resume", lost.path).exit_code == 72
    assert not contents(lost.storage)


def test_what_is_here_is_not_replaced(finished: Callable[..., RunFolder], store: Path) -> None:
    """A folder with anything in it is read as it is."""
    run = finished(3, store=f"file://{store}")
    shutil.rmtree(run.storage / "models")
    before = contents(run.storage)
    assert "here again" not in submit("run", "--resume", run.path).stdout
    assert contents(run.storage) == before
