"""One folder holds a job's checkpoints, models and record, and damage in it is told, not fatal."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from fl_core.errors import UnusableError
from fl_server.checkpoints import Saved
from fl_server.storage import Storage
from tests.fl_server.recorded import recorded

World = Callable[..., Any]


@pytest.fixture
def storage(world: World) -> Storage:
    """A new job's storage."""
    job = world()
    return Storage(job.folder / "storage", job.plan)


def saved(value: float, **facts: Any) -> Saved:
    return Saved({"w": np.full(3, value, "f4")}, {"round": 1, "metrics": {}, **facts})


def numbers(storage: Storage) -> list[int]:
    """The rounds that are recorded, and stand."""
    return [row["round"] for row in recorded(storage)]


def test_a_model_comes_back(storage: Storage) -> None:
    """`best` and `last` are kept apart, and each is the one that was kept last."""
    for value in (1, 2):
        storage.keep_model("best", saved(value))
    storage.keep_model("last", saved(3))
    found = [storage.model(kind) for kind in ("best", "last")]
    assert [model.weights["w"].tolist() for model in found if model] == [[2] * 3, [3] * 3]


def test_the_same_model_of_another_job_is_the_same_file(storage: Storage) -> None:
    """Which plan a model was trained under is not in its file."""
    contents = set()
    for plan in ("a", "b"):
        storage.keep_model("last", saved(1, plan=plan))
        contents.add((storage.folder / "models" / "last.safetensors").read_bytes())
    assert len(contents) == 1


def test_a_missing_or_damaged_model_is_none(storage: Storage) -> None:
    """No model and a torn one give none; the torn one is told."""
    assert storage.model("best") is None
    storage.keep_model("best", saved(1))
    path = storage.folder / "models" / "best.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with capture_logs() as logged:
        assert storage.model("best") is None
    assert [line["event"] for line in logged] == ["damaged model passed over"]


def test_the_record_is_a_line_a_round(storage: Storage) -> None:
    """Rows are appended as canonical JSON, in order, and read again after a restart."""
    rows = [{"round": number, "metrics": {"loss": 0.5}, "b": 1.0, "a": "é\n"} for number in (1, 2, 3)]
    lines = [storage.record(row) for row in rows]
    assert lines[0].startswith('{"a":"é\\n","b":1,"line":1,"metrics":{"loss":0.5},"plan":"')
    assert (storage.folder / "metrics.jsonl").read_text(encoding="utf-8") == "".join(
        f"{line}\n" for line in lines
    )
    assert [{name: row[name] for name in rows[0]} for row in recorded(storage)] == rows


def test_a_line_that_a_crash_tore_is_cut_off(storage: Storage) -> None:
    """A half line at the end is gone after a restart, and the next round's line stands on its own."""
    storage.record({"round": 1})
    with (storage.folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"round":2,"met')
    assert numbers(storage) == [1]
    storage.record({"round": 2})
    assert numbers(storage) == [1, 2]


def test_damage_in_the_middle_is_told(storage: Storage) -> None:
    """A line that was whole and is no JSON is nothing that a crash leaves."""
    storage.record({"round": 1})
    (storage.folder / "metrics.jsonl").write_text('{"round":\n{"round":2,"line":2}\n')
    with pytest.raises(UnusableError, match="metrics.jsonl is damaged: line 1: it was changed"):
        recorded(storage)


FULL = """
import json, resource, sys
from pathlib import Path
from fl_core.errors import StorageError
from fl_core.plan import Plan
from fl_server.storage import Storage

storage = Storage(Path(sys.argv[1]), Plan.read(Path(sys.argv[2])))
size = (storage.folder / "metrics.jsonl").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, size + 5))
try:
    storage.record({"round": 2})
except StorageError as error:
    print(error)
"""


def test_a_full_disk_keeps_the_earlier_lines(storage: Storage, world: World) -> None:
    """A line that the system cuts short is an error, and the lines before it are whole."""
    job = world()
    (job.folder / "plan.json").write_text(job.plan.to_json())
    storage.record({"round": 1})
    arguments = [sys.executable, "-c", FULL, str(storage.folder), str(job.folder / "plan.json")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert "metrics.jsonl cannot be written: File too large" in done.stdout
    assert json.loads((storage.folder / "metrics.jsonl").read_text().splitlines()[0])["round"] == 1
    assert numbers(storage) == [1]


def test_what_was_never_finished_is_swept_away(storage: Storage, world: World) -> None:
    """A server that starts removes what a killed one had not yet given its name, and nothing else."""
    storage.keep_model("last", saved(1))
    for name in (
        ".metrics.jsonl.0a.partial",
        "models/.last.safetensors.0b.partial",
        "checkpoints/.x.0c.partial",
    ):
        (storage.folder / name).write_bytes(b"half")
    Storage(storage.folder, world().plan)
    assert not list(storage.folder.rglob("*.partial"))
    assert (storage.folder / "models" / "last.safetensors").exists()
