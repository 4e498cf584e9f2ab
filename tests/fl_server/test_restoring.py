"""Where a server that starts goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl_core.errors import UnusableError
from fl_core.models import checkpoint_name, newest_model
from fl_core.plan import Checkpoint, InitialModel, Plan
from fl_core.record import read
from fl_core.steps import fill
from fl_core.weights import digest
from fl_server import restoring
from fl_server.checkpoints import FullError, Saved, write
from fl_server.model import Model
from fl_server.storage import Storage
from tests.fl_server.crowd import SECURE


@dataclass
class Job:
    """A job's folder, in the hands of one server after another; its models hold one number each."""

    plan: Plan
    folder: Path
    told: list[str] = field(default_factory=list)

    def checkpoint(self, number: int) -> Path:
        return self.folder / "checkpoints" / checkpoint_name(number)

    def saved(self, number: int, value: float, *, base: float) -> Saved:
        """The checkpoint of a round that made this model of that one."""
        weights = {"w": np.full(3, value, "f4")}
        facts = {"round": number, "plan": self.plan.digest, "digest": digest(weights)}
        return Saved(weights, {**facts, "row": self.row(number, value, base=base)}, digest=digest(weights))

    def row(self, number: int, value: float, *, base: float) -> dict[str, Any]:
        models = [digest({"w": np.full(3, one, "f4")}) for one in (base, value)]
        return {"round": number, "result": "Committed", "metrics": {}, "base": models[0], "model": models[1]}

    def make(self, number: int, value: float, *, base: float, kept: bool = True, told: bool = True) -> None:
        """A round, with a checkpoint if it is `kept`, and a line if it was `told`."""
        storage = Storage(self.folder, self.plan)
        row = self.row(number, value, base=base)
        if kept:
            row["checkpoint"] = storage.checkpoints.save(self.saved(number, value, base=base))
        if told:
            storage.record(row)

    def start(self) -> int:
        """The round from which a server that starts goes on; one that is not recorded is recorded."""
        storage = Storage(self.folder, self.plan)
        newest = storage.newest(self.told.append)
        assert newest is not None
        number = int(newest.facts["round"])
        if not storage.resumed(number, model=newest.digest, made=True).recorded:
            storage.record(newest.facts["row"])
        record = read((self.folder / "metrics.jsonl").read_bytes(), self.plan.digest)
        assert (record.findings, record.last) == ((), number)
        return number


@pytest.fixture
def job(world: Callable[..., Any]) -> Job:
    """A new job of 12 rounds."""
    one = world(rounds=12, checkpoint=Checkpoint(every_rounds=1, keep=9))
    return Job(one.plan, one.folder / "storage")


def test_a_fork_that_begins_again_goes_back_to_its_parents_round(world: Callable[..., Any]) -> None:
    """Its rounds between two checkpoints are given up when its first one is damaged, those of its parent are not."""
    sparse = Checkpoint(every_rounds=10, keep=2)
    one = world(rounds=20, checkpoint=sparse, initial_model=InitialModel(round=5))
    folder = one.folder / "storage"
    storage = Storage(folder, one.plan)
    for number in (6, 7):
        storage.record({"round": number, "result": "Committed", "metrics": {}})
    (folder / "checkpoints" / "round-0000005.safetensors").write_bytes(b"nonsense")

    async def main() -> None:
        async with one.serving() as served:
            await served.coordinator._restore()
            assert served.coordinator.model is None
            assert served.coordinator.board.closed == (folder / "metrics.jsonl").read_text().splitlines()[-1:]

    asyncio.run(main())
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert (last["result"], last["round"]) == ("Restored", 5)


def test_a_server_without_a_whole_checkpoint_knows_of_whom_vectors_may_have_left(
    world: Callable[..., Any],
) -> None:
    """Only the first model was kept, and is damaged: round 1 is sought again among the same candidates."""
    one = world(secure_aggregation=SECURE)

    async def main() -> None:
        async with one.serving() as served:
            served.coordinator.secure.protection.journal.dealing(1, 1, "update", candidates=[0, 1, 2])
        (one.folder / "storage" / "checkpoints" / "round-0000000.safetensors").write_bytes(b"nonsense")
        async with one.serving() as served:
            await served.coordinator._restore()
            assert served.coordinator.model is None
            assert set(served.coordinator.rounds.past.bound) == {1}
            assert served.coordinator.secure.protection.journal.candidates(1, "update") == (0, 1, 2)

    asyncio.run(main())


@pytest.mark.parametrize("patience", [60.0, 0.0])
def test_a_commit_waits_for_room(
    world: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    """Those who watch are told of a full disk and of its end; one that stays full for longer ends the server."""
    monkeypatch.setattr(restoring, "ROOM_SECONDS", patience)
    monkeypatch.setattr(restoring, "ROOM_PAUSE", 0.05)
    one, told = world(), list[str]()
    model = Model.of({"w": np.ones(3, "f4")})

    async def main() -> None:
        async with one.serving() as served:
            saving = served.coordinator._restoring
            saving._told = told.append
            fill(one.folder / "storage" / "checkpoints", seconds=0.5)
            if not patience:
                with pytest.raises(FullError, match="No space left on device"):
                    await saving.save(model, round=1, row={})
            else:
                await saving.save(model, round=1, row={})
                newest = served.storage.checkpoints.newest()
                assert newest is not None
                assert newest.facts["round"] == 1

    asyncio.run(main())
    assert [sentence.endswith("it is tried again for 60 s: make room") for sentence in told] == (
        [True, False] if patience else []
    )
    assert not told or told[-1] == ""


def test_a_checkpoint_of_another_model_stays_refused(job: Job) -> None:
    """Passed over by each start until its round is made again, also where the line of that round is given up."""
    for number in (1, 2, 3):
        job.make(number, number, base=number - 1)
    forged = job.saved(3, 9, base=2)
    write(job.checkpoint(3), forged)
    assert [job.start() for _ in range(2)] == [2, 2]
    back = json.loads((job.folder / "metrics.jsonl").read_text().splitlines()[3])
    assert (back["result"], back["round"], back["refused"]) == ("Restored", 2, [digest(forged.weights)])
    assert job.told[0].startswith("round-0000003.safetensors is the model ")
    job.make(3, 3, base=2)
    assert job.start() == 3


def test_a_checkpoint_whose_memory_was_changed_is_passed_over(job: Job) -> None:
    """With its model, another memory and a seal of it, it is not the record's, before going back and after."""
    for number in (1, 2, 3):
        job.make(number, number, base=number - 1)
    good = job.checkpoint(3).read_bytes()
    write(job.checkpoint(3), replace(job.saved(3, 3, base=2), states={"strategy": {"momentum": 9.0}}))
    assert [job.start() for _ in range(2)] == [2, 2]
    assert job.told[0].startswith("round-0000003.safetensors is not the checkpoint ")
    assert newest_model(job.folder).round == 2
    job.checkpoint(3).write_bytes(good)
    assert job.start() == 3


def test_a_round_made_again_with_the_same_model_is_gone_on_from(job: Job) -> None:
    """Its checkpoint, of another attempt, is whole and has no line yet; the given-up line names another."""
    for number in (1, 2):
        job.make(number, number, base=number - 1)
    job.checkpoint(2).write_bytes(b"damaged")
    assert job.start() == 1
    again = job.saved(2, 2, base=1)
    again.facts["row"]["attempt"] = 2
    write(job.checkpoint(2), again)
    assert job.start() == 2


def test_a_good_copy_of_a_round_that_was_given_up_is_passed_over(job: Job) -> None:
    """Put back over a stray one after the server went back and on, it neither ends the job nor is gone on from."""
    for number in range(1, 11):
        job.make(number, number, base=number - 1, kept=number in {5, 10})
    good = job.checkpoint(10).read_bytes()
    write(job.checkpoint(10), job.saved(10, 99, base=9))
    assert job.start() == 5
    job.checkpoint(10).write_bytes(good)
    assert job.start() == 5
    job.make(6, 60, base=5)
    job.make(7, 70, base=60, kept=False)
    assert job.start() == 6
    given_up = "round-0000010.safetensors was given up when the server went back, and was passed over"
    assert job.told[1:] == [given_up, given_up]
    assert newest_model(job.folder).round == 6


@pytest.mark.parametrize("told", [True, False], ids=["recorded", "unrecorded"])
def test_a_round_made_from_a_model_that_was_given_up_is_passed_over(job: Job, *, told: bool) -> None:
    """Legible again, it is the round after the last one, and its line would contradict the record for good."""
    for number in (1, 2):
        job.make(number, number, base=number - 1)
    job.make(3, 3, base=2, told=told)
    old = job.checkpoint(3).read_bytes()
    for number in (2, 3):
        job.checkpoint(number).write_bytes(b"damaged")
    assert job.start() == 1
    job.make(2, 20, base=1)
    job.checkpoint(3).write_bytes(old)
    assert [job.start() for _ in range(2)] == [2, 2]
    assert newest_model(job.folder).round == 2
    job.make(3, 30, base=20)
    assert job.start() == 3


@pytest.mark.parametrize("kept", [1, 5])
def test_a_round_that_nobody_recorded_and_that_was_given_up(job: Job, kept: int) -> None:
    """A commit without a line, given up because its file was damaged for a while, is no lost end of the record."""
    for number in range(1, 10):
        job.make(number, number, base=number - 1, kept=number == kept)
    job.make(10, 10, base=9, told=False)
    old = job.checkpoint(10).read_bytes()
    job.checkpoint(10).write_bytes(b"damaged")
    assert job.start() == kept
    job.checkpoint(10).write_bytes(old)
    assert job.start() == kept


def test_a_round_that_was_given_up_may_be_the_next_one(job: Job) -> None:
    """Good copies that are put back before another round is made are gone on from, one at each start."""
    for number in (1, 2, 3):
        job.make(number, number, base=number - 1)
    good = {number: job.checkpoint(number).read_bytes() for number in (2, 3)}
    for number in good:
        write(job.checkpoint(number), job.saved(number, 99, base=number - 1))
    assert job.start() == 1
    for number, content in good.items():
        job.checkpoint(number).write_bytes(content)
    assert [job.start() for _ in range(3)] == [2, 3, 3]


def test_a_committed_round_is_recorded_after_the_server_went_back(job: Job) -> None:
    """Made again, with another model or the same, and not recorded yet: its checkpoint is the one to go on from."""
    for number in (1, 2):
        job.make(number, number, base=number - 1)
    job.checkpoint(2).write_bytes(b"damaged")
    assert job.start() == 1
    job.make(2, 2, base=1, told=False)
    assert job.start() == 2
    job.make(3, 3, base=2, told=False)
    assert job.start() == 3


def test_lines_that_are_missing_still_end_the_job(job: Job) -> None:
    """A checkpoint further on than the record ever came is no round that was given up."""
    for number in range(1, 5):
        job.make(number, number, base=number - 1)
    lines = (job.folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (job.folder / "metrics.jsonl").write_text("".join(lines[:2]))
    with pytest.raises(UnusableError, match="checkpoint of round 4, and the record ends with round 2"):
        job.start()


def test_a_checkpoint_under_another_rounds_name_is_passed_over(job: Job) -> None:
    """What a file holds is of the round that its name says, or the next older one is taken, and that is told."""
    for number in (1, 2, 3):
        job.make(number, number, base=number - 1)
    job.checkpoint(3).write_bytes(job.checkpoint(1).read_bytes())
    assert newest_model(job.folder).round == 2
    assert job.start() == 2
    assert job.told == ["round-0000003.safetensors is the checkpoint of round 1, and was passed over"]


def test_the_record_is_read_once_for_all_checkpoints(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are compared with it, its bytes are read, and hashed, one time."""
    for number in (1, 2, 3, 4):
        job.make(number, number, base=number - 1)
    for number in (2, 3, 4):
        write(job.checkpoint(number), job.saved(number, 99, base=number - 1))
    storage, lines, opened = Storage(job.folder, job.plan), job.folder / "metrics.jsonl", list[Path]()
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: opened.append(path) or read_bytes(path))
    newest = storage.newest(job.told.append)
    assert newest is not None
    assert (newest.facts["round"], len(job.told), opened.count(lines)) == (1, 3, 1)
