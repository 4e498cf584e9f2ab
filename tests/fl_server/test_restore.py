"""Whoever reads a job's storage out of its store has a copy, and the job's server goes on as if nobody had."""

from __future__ import annotations

import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from fl_core.errors import MismatchError, StorageError
from fl_core.models import INDEX, best_model, newest_model
from fl_server.checkpoints import Saved
from fl_server.download import Patient
from fl_server.objects import Folder
from fl_server.restore import copy
from fl_server.storage import Storage
from tests.conftest import plan_of

PLAN = plan_of()
LIMITED = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, (8, 8))
runpy.run_module("fl_server.restore", run_name="__main__")
"""
"""The command, in a process that may write no file of more than eight bytes."""


def commit(one: Storage, number: int) -> None:
    """A round whose model holds its number."""
    weights = {"w": np.full(3, number, "f4")}
    one.checkpoints.save(Saved(weights, {"round": number, "plan": PLAN.digest, "metrics": {}, "row": {}}))
    one.keep_model("best", Saved(weights, {"round": number, "metrics": {}}))
    one.record({"round": number, "result": "Committed"})


@pytest.fixture(autouse=True)
def _made(tmp_path: Path) -> None:
    """The store's folder is there."""
    (tmp_path / "store").mkdir()


def store(tmp_path: Path) -> Folder:
    return Folder(f"file://{tmp_path}/store", tmp_path / "store")


def test_a_reader_has_a_copy(tmp_path: Path) -> None:
    """The command fills a folder with all that was kept; the server is not fenced off by it."""
    server = Storage(tmp_path / "server", PLAN, store=f"file://{tmp_path}/store")
    commit(server, 1)
    before = sorted((tmp_path / "store").rglob("*"))
    line = [sys.executable, "-m", "fl_server.restore", "--store", f"file://{tmp_path}/store"]
    subprocess.run([*line, "--job", "job-1", "--storage", str(tmp_path / "copy")], check=True)
    assert newest_model(tmp_path / "copy").round == best_model(tmp_path / "copy").round == 1
    assert (tmp_path / "copy" / "metrics.jsonl").read_bytes() == (
        tmp_path / "server" / "metrics.jsonl"
    ).read_bytes()
    assert sorted((tmp_path / "store").rglob("*")) == before
    commit(server, 2)
    refused = subprocess.run(
        [*line, "--job", "job-2", "--storage", str(tmp_path / "copy")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == MismatchError.exit_code
    assert "is the storage of the job test (job-1), not of job-2" in refused.stderr


def test_a_server_that_goes_on_meanwhile(tmp_path: Path) -> None:
    """A reader whose objects are removed while it reads begins again with the newest head."""
    server = Storage(tmp_path / "server", PLAN, store=f"file://{tmp_path}/store")
    commit(server, 1)
    one, commits = store(tmp_path), iter(range(2, 40))

    class Slow(Folder):
        def read(self, name: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
            if name.startswith("objects/"):
                for number in list(commits):
                    commit(server, number)
            return super().read(name)

    copy(Patient(Slow(one.uri, tmp_path / "store")), "job-1", tmp_path / "copy")
    assert newest_model(tmp_path / "copy").round == 39


def test_a_folder_that_takes_no_more(tmp_path: Path) -> None:
    """A copy that cannot be written ends with a sentence and the exit code of a storage."""
    server = Storage(tmp_path / "server", PLAN, store=f"file://{tmp_path}/store")
    commit(server, 1)
    line = ["--store", f"file://{tmp_path}/store", "--storage", str(tmp_path / "copy")]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *line],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == StorageError.exit_code
    assert done.stderr.splitlines()[-1] == f"{tmp_path}/copy: File too large"


def test_an_empty_store(tmp_path: Path) -> None:
    """Where nothing was kept yet the copy is empty, and whoever reads it says so."""
    copy(Patient(store(tmp_path)), "job-1", tmp_path / "copy")
    with pytest.raises(StorageError, match="no round has been committed"):
        newest_model(tmp_path / "copy")


def test_a_store_that_is_not_mounted(tmp_path: Path) -> None:
    """A folder that is not there is no empty store: whoever reads it is told."""
    (tmp_path / "store").rmdir()
    with pytest.raises(StorageError, match="store is no folder; mount what it is on"):
        copy(Patient(store(tmp_path)), "job-1", tmp_path / "copy")


def files(folder: Path) -> list[str]:
    """All that lies in a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_only_what_is_asked_for_is_copied(tmp_path: Path) -> None:
    """Named files, those that are kept, and of a folder the last one; the index names what else there is."""
    server = Storage(tmp_path / "server", PLAN, store=f"file://{tmp_path}/store")
    for number in (1, 2):
        commit(server, number)
    only = ("metrics.jsonl", "never", "checkpoints/")
    copy(Patient(store(tmp_path)), "job-1", tmp_path / "copy", only=only)
    assert files(tmp_path / "copy") == ["checkpoints/round-0000002.safetensors", INDEX, "metrics.jsonl"]
    named = (tmp_path / "copy" / INDEX).read_text().splitlines()
    assert named == [name for name in files(tmp_path / "server") if not name.startswith("claims/")]


def test_a_server_that_is_faster_than_its_reader(tmp_path: Path) -> None:
    """A reader whose objects are gone each time ends with a sentence, and leaves no part of what it could not read."""
    server = Storage(tmp_path / "server", PLAN, store=f"file://{tmp_path}/store")
    commit(server, 1)
    one, commits = store(tmp_path), count(2)

    class Slow(Folder):
        def read(self, name: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
            if name.startswith("objects/"):
                for _ in range(20):
                    commit(server, next(commits))
            return super().read(name)

    slow = Patient(Slow(one.uri, tmp_path / "store"))
    with pytest.raises(StorageError, match="changes faster than it can be read: after 5 times"):
        copy(slow, "job-1", tmp_path / "copy", only=("checkpoints/",))
    assert files(tmp_path / "copy") == []
