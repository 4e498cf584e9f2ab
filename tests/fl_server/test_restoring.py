"""Where a server that starts goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fl_core.plan import Checkpoint, InitialModel
from fl_core.steps import fill
from fl_core.weights import digest
from fl_server import restoring
from fl_server.checkpoints import FullError, Saved, write
from fl_server.model import Model
from fl_server.storage import Storage


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


def test_a_checkpoint_of_another_model_stays_refused(world: Callable[..., Any]) -> None:
    """Passed over by each start until its round is made again, also where the line of that round is given up."""
    one, told = world(rounds=5), list[str]()
    folder = one.folder / "storage"

    def saved(number: int, value: float) -> Saved:
        weights = {"w": np.full(3, value, "f4")}
        return Saved(weights, {"round": number, "plan": one.plan.digest, "digest": digest(weights)})

    def made(storage: Storage, number: int) -> None:
        storage.checkpoints.save(saved(number, number))
        models = [digest(saved(of, of).weights) for of in (number - 1, number)]
        row = {"round": number, "result": "Committed", "metrics": {}}
        storage.record({**row, "base": models[0], "model": models[1]})

    def found(storage: Storage) -> int:
        newest = storage.newest(told.append)
        assert newest is not None
        number = int(newest.facts["round"])
        storage.resumed(number, model=newest.digest, made=True)
        return number

    for number in (1, 2, 3):
        made(Storage(folder, one.plan), number)
    forged = saved(3, 9.0)
    write(folder / "checkpoints" / "round-0000003.safetensors", forged)
    assert [found(Storage(folder, one.plan)) for _ in range(2)] == [2, 2]
    back = json.loads((folder / "metrics.jsonl").read_text().splitlines()[3])
    assert (back["result"], back["round"], back["refused"]) == ("Restored", 2, [digest(forged.weights)])
    assert told[0].startswith("round-0000003.safetensors is the model ")
    made(Storage(folder, one.plan), 3)
    assert found(Storage(folder, one.plan)) == 3
