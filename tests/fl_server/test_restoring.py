"""Where a server that starts goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from fl_core.plan import Checkpoint, InitialModel
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
