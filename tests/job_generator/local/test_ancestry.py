from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from fl_core.errors import JobError, StorageError
from fl_core.plan import Plan
from fl_core.record import read as record_of
from fl_core.record import written
from fl_core.weights import digest
from fl_server.checkpoints import Saved, read, write
from job_generator.local.ancestry import Ancestor
from job_generator.local.folder import RunFolder


@pytest.fixture
def parent(tmp_path: Path, a_plan: Callable[..., Plan]) -> Callable[[int], Ancestor]:
    """A run whose checkpoints of rounds 4 and 6 are kept, seen from a round."""
    checkpoints = tmp_path / "run" / "storage" / "checkpoints"
    checkpoints.mkdir(parents=True)
    for number in (4, 6):
        save_file({"w": np.full(3, number, "f4")}, checkpoints / f"round-{number:07d}.safetensors")
    return lambda number: Ancestor(RunFolder(tmp_path / "run"), number, a_plan())


def test_a_fork_has_copies(parent: Callable[[int], Ancestor], tmp_path: Path) -> None:
    """What a fork needs lies in its own folder as in its parent's storage; what the parent lacks is left out."""
    ancestor, child = parent(6), RunFolder(tmp_path / "child")
    (ancestor.run.storage / "privacy.jsonl").write_text("charges")
    child.path.mkdir()
    given = ancestor.hand_over(child)
    assert given == child.path / "parent" / "checkpoints" / "round-0000006.safetensors"
    assert given.read_bytes() == ancestor.checkpoint.read_bytes()
    assert (child.path / "parent" / "privacy.jsonl").read_text() == "charges"
    assert not (child.path / "parent" / "models").exists()
    assert (ancestor.told.round, ancestor.told.folder) == (6, str(ancestor.run.path))


def test_copies_outlive_a_power_cut(
    parent: Callable[[int], Ancestor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is synced as it is now, and each folder with the names that it has now."""
    ancestor, child, synced = parent(6), RunFolder(tmp_path / "child"), dict[int, object]()

    def held(path: Path) -> object:
        return (
            path.read_bytes() if path.is_file() else {one.name: one.stat().st_ino for one in path.iterdir()}
        )

    def fsync(descriptor: int) -> None:
        synced[os.fstat(descriptor).st_ino] = held(Path(f"/proc/self/fd/{descriptor}").readlink())

    (ancestor.run.storage / "privacy.jsonl").write_text("charges")
    child.path.mkdir()
    monkeypatch.setattr(os, "fsync", fsync)
    ancestor.hand_over(child)
    there = [child.path, *child.path.rglob("*")]
    assert {path.name for path in there if path.is_file()} == {"round-0000006.safetensors", "privacy.jsonl"}
    assert [path for path in there if synced.get(path.stat().st_ino) != held(path)] == []


def test_a_round_that_is_not_kept(parent: Callable[[int], Ancestor], tmp_path: Path) -> None:
    """The sentence names those that are, and the field that keeps more; also where it goes before it is copied."""
    with pytest.raises(JobError, match=r"no checkpoint of round 5, but of rounds 4 and 6: .*set keep higher"):
        parent(5).stored()
    ancestor = parent(4)
    ancestor.stored()
    ancestor.checkpoint.unlink()
    (tmp_path / "child").mkdir()
    with pytest.raises(JobError, match="no checkpoint of round 4, but of round 6"):
        ancestor.hand_over(RunFolder(tmp_path / "child"))
    for path in (ancestor.run.storage / "checkpoints").iterdir():
        path.unlink()
    with pytest.raises(JobError, match="has no checkpoint yet"):
        ancestor.stored()


def test_a_damaged_checkpoint(parent: Callable[[int], Ancestor]) -> None:
    """It is not gone on from."""
    path = parent(6).checkpoint
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StorageError, match="no safetensors file that can be read"):
        parent(6).stored()


def test_a_checkpoint_that_the_record_does_not_have(finished: Callable[..., RunFolder]) -> None:
    """One with other weights, written as the server writes them, is refused, and the others are as good as before."""
    run = finished(6)
    plan = Plan.read(run.plan)
    last, earlier = Ancestor(run, 6, plan), Ancestor(run, 5, plan)
    assert last.stored().round == 6
    there = read(last.checkpoint)
    weights = {name: array + 1 for name, array in there.weights.items()}
    write(last.checkpoint, Saved(weights, {**there.facts, "digest": digest(weights)}))
    with pytest.raises(
        StorageError, match=r"round-0000006.safetensors is the model \w+, while the record has"
    ):
        last.stored()
    assert earlier.stored().round == 5


def test_a_checkpoint_of_a_round_that_was_given_up(finished: Callable[..., RunFolder]) -> None:
    """The server went back behind it: it is refused, and that of the round that it went back to is not."""
    run = finished(6)
    plan = Plan.read(run.plan)
    lines = run.storage / "metrics.jsonl"
    content = lines.read_bytes()
    back = {"round": 5, "result": "Restored", "plan": plan.digest}
    row = record_of(content, plan.digest).head.bound(back)
    lines.write_bytes(content + written(row) + b"\n")
    with pytest.raises(StorageError, match="was given up when the server went back; fork from another round"):
        Ancestor(run, 6, plan).stored()
    assert Ancestor(run, 5, plan).stored().round == 5


def test_a_checkpoint_under_another_rounds_name(finished: Callable[..., RunFolder]) -> None:
    """A copy of an earlier round's is refused with both rounds."""
    run = finished(6)
    last, earlier = (Ancestor(run, number, Plan.read(run.plan)) for number in (6, 5))
    last.checkpoint.write_bytes(earlier.checkpoint.read_bytes())
    with pytest.raises(
        StorageError, match="is the checkpoint of round 5; expected that of round 6: fork from"
    ):
        last.stored()
