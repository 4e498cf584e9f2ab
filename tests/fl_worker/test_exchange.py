"""What a worker takes from the server and gives it, within a session on loopback."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fl_core.wire import fl_pb2 as pb
from fl_core.wire.guard import context_of
from fl_core.wire.secagg import SHORT
from tests.fl_worker.loopback import DIGEST, World

pytestmark = pytest.mark.timeout(30)


def test_another_model_than_all_are_told_of_is_not_trained(world: World, tmp_path: Path) -> None:
    """With secure sums a server could give each worker a model of its own: its digest must be that of the order."""
    world.protection = object()

    async def main() -> None:
        async with world.attending(tmp_path):
            await world.scheduler.said.get()
            world.order(train=pb.Train(model="0" * 64))
            said = await world.scheduler.said.get()
            assert (
                said.decline.reason
                == f"the server gave a model with the digest {DIGEST[:12]} as 000000000000"
            )
            assert world.works == []

    asyncio.run(main())


@pytest.mark.parametrize(("nbytes", "transferred"), [(SHORT, False), (SHORT + 1, True)])
def test_a_long_masked_vector_is_a_transfer_that_tells_its_length_only(
    world: World, tmp_path: Path, nbytes: int, *, transferred: bool
) -> None:
    """A short one is given as a message, for the call in which its session speaks."""
    data = bytes(nbytes)

    async def main() -> None:
        async with world.attending(tmp_path):
            await world.scheduler.said.get()
            place = context_of(world.plan, round=4, attempt=1)
            said = await world.session._exchange.push_masked(place, memoryview(data))
            if said is not None:
                assert not transferred
                assert (said.data, world.server.pushed.qsize()) == (data, 0)
                return
            head, *chunks = await world.server.pushed.get()
            assert transferred
            assert head.transfer == pb.Transfer(context=place, kind=pb.KIND_MASKED, nbytes=nbytes)
            assert b"".join(chunk.chunk.data for chunk in chunks) == data

    asyncio.run(main())
