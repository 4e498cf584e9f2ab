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
from fl_server import restoring
from fl_server.checkpoints import FullError
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
