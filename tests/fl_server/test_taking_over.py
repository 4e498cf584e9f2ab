"""A server that takes up another one's storage, and one whose storage another has taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import numpy as np
import pytest

from fl_core.errors import FencedError, ShortfallError
from fl_core.plan import Checkpoint, EarlyStopping
from fl_core.weights import digest
from fl_core.wire import fl_pb2 as pb
from fl_server.checkpoints import Saved
from fl_server.storage import Storage
from tests.fl_server.recorded import recorded

pytestmark = pytest.mark.timeout(30)

WEIGHTS = {"w": np.zeros(3, "f4")}
SECONDS = 10


def row(number: int, loss: float) -> dict[str, Any]:
    """A committed round's line."""
    return {
        "round": number,
        "attempt": 1,
        "result": "Committed",
        "base": digest(WEIGHTS),
        "model": digest(WEIGHTS),
        "metrics": {"loss": loss},
    }


def committed(storage: Storage, number: int, loss: float) -> None:
    """A round whose checkpoint and line are there."""
    facts = {
        "round": number,
        "plan": storage.checkpoints.plan,
        "digest": digest(WEIGHTS),
        "metrics": {},
        "row": row(number, loss),
    }
    storage.checkpoints.save(Saved(WEIGHTS, facts, digest=digest(WEIGHTS)))
    storage.record(row(number, loss))


def test_who_was_fenced_off_ends_nothing_but_itself(world: Callable[..., Any]) -> None:
    """A job that fails in a server whose storage a newer one has claimed goes on there: nobody is sent home."""
    one = world(rounds=2)

    async def main() -> None:
        async with one.serving() as served, served.running() as task:
            await served.called()
            Storage(one.folder / "storage", one.plan)
            served.coordinator.failed(ShortfallError("too few"))
            with pytest.raises(FencedError):
                await asyncio.wait_for(asyncio.shield(task), SECONDS)
            assert one.scheduler.dismissed == []
            assert served.coordinator.board.ending is None

    asyncio.run(main())


def test_who_was_fenced_off_before_it_asked_does_not_ask(world: Callable[..., Any]) -> None:
    """What ends a server before its first question does so."""
    one = world(rounds=2)

    async def main() -> None:
        async with one.serving() as served:
            served.coordinator.failed(FencedError("claimed"))
            async with served.running() as task:
                with pytest.raises(FencedError):
                    await asyncio.wait_for(asyncio.shield(task), SECONDS)
        assert one.scheduler.calls.empty()

    asyncio.run(main())


def test_whom_the_scheduler_has_replaced_ends(
    world: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that cannot see the newer claim, and hears of it from the scheduler, ends as one that was fenced off."""
    one = world(rounds=2)

    async def convene(request: pb.Convening, call: Any) -> AsyncIterator[pb.CohortEvent]:
        await call.abort(grpc.StatusCode.ABORTED, f"a newer server, not the one of epoch {request.epoch}")
        yield pb.CohortEvent()

    monkeypatch.setattr(one.scheduler, "Convene", convene)

    async def main() -> None:
        async with one.serving() as served, served.running() as task:
            with pytest.raises(FencedError, match="a newer server, not the one of epoch 1"):
                await asyncio.wait_for(asyncio.shield(task), SECONDS)
            assert one.scheduler.dismissed == []
            assert served.coordinator.board.ending is None

    asyncio.run(main())


def test_a_stop_while_the_server_restores_is_heard(world: Callable[..., Any]) -> None:
    """The wish to end the job may come before the checkpoint is read."""
    one = world(rounds=20)
    committed(Storage(one.folder / "storage", one.plan), 1, 1.0)

    async def main() -> None:
        async with one.serving() as served:
            served.coordinator.finish()
            async with served.running() as task:
                await asyncio.wait_for(asyncio.shield(task), SECONDS)
            assert served.coordinator.board.ending.reason == "Stopped"

    asyncio.run(main())


def test_rounds_that_were_given_up_do_not_count_as_no_progress(world: Callable[..., Any]) -> None:
    """After a return to the checkpoint of the best round no round has passed since."""
    stopping, checkpoint = EarlyStopping(patience=3, min_delta=0.0), Checkpoint(every_rounds=5, keep=2)
    one = world(rounds=20, early_stopping=stopping, checkpoint=checkpoint)
    storage = Storage(one.folder / "storage", one.plan)
    for number, loss in enumerate((5.0, 4.0, 3.0, 2.0), start=1):
        storage.record(row(number, loss))
    committed(storage, 5, 1.0)
    for number in (6, 7):
        storage.record(row(number, 1.5))

    async def main() -> None:
        async with one.serving() as served:
            await served.coordinator._restore()
            best = served.coordinator._best
            assert [best.ending({"loss": 1.5}) for _ in range(3)] == ["", "", "NoProgress"]

    asyncio.run(main())


def test_only_the_newest_server_cuts_off_what_is_unfinished(world: Callable[..., Any]) -> None:
    """What seems torn to an older server may be what the newer one is writing."""
    one = world(rounds=9)
    older = Storage(one.folder / "storage", one.plan)
    newer = Storage(one.folder / "storage", one.plan)
    newer.record(row(1, 1.0))
    path = newer.folder / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"half":')
    with pytest.raises(FencedError):
        recorded(older)
    assert path.read_bytes() == whole + b'{"half":'
    assert [line["round"] for line in recorded(newer)] == [1]
    assert path.read_bytes() == whole
