"""Uploads whose connection is cut, over real sockets with mutual TLS: what the server keeps, for whom, how long."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest

from fl_core.errors import StorageError, UpdateError
from fl_core.weights import Weights, pack
from fl_core.wire import arrays
from fl_core.wire import fl_pb2 as pb
from fl_server import uploads

pytestmark = pytest.mark.timeout(30)

CHUNK = 4
SIX: Weights = {"w": np.full(3, 6, "f4")}
NINE: Weights = {"w": np.full(3, 9, "f4")}
ZERO: Weights = {"w": np.zeros(3, "f4")}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """An update has three chunks."""
    monkeypatch.setattr(arrays, "CHUNK", CHUNK)
    monkeypatch.setattr(uploads, "SWEEP_SECONDS", 0.05)


@asynccontextmanager
async def training(one: Any) -> AsyncIterator[tuple[Any, pb.Convening]]:
    """A server that trains its first round, and what it asks for."""
    async with one.serving() as served, served.running():
        await served.hand_in(await served.called())
        yield served, await served.called()


def head(client: Any, asked: pb.Convening, weights: Weights, **fields: Any) -> pb.Transfer:
    """What announces an update that may go on."""
    digest = hashlib.sha256(pack(weights)).hexdigest()
    return client.head(asked.context, weights, model=asked.model, digest=digest, **fields)


def sent(said: pb.Transfer, weights: Weights) -> list[pb.Frame]:
    return [pb.Frame.FromString(one) for one in arrays.frames(said, pack(weights), start=said.start)]


@asynccontextmanager
async def pushing(
    served: Any, asked: pb.Convening, *, chunks: int, name: str = "worker-1"
) -> AsyncIterator[Any]:
    """A worker's call that has brought so many chunks of an update; in the block its connection is still there."""
    moves, moved = asyncio.Semaphore(0), served.coordinator.moved

    def noted(worker: str) -> None:
        moved(worker)
        moves.release()

    served.coordinator.moved = noted
    async with served.speaking(name) as client:
        push = client.stub.Push(wait_for_ready=True)
        for frame in sent(head(client, asked, SIX), SIX)[: 1 + chunks]:
            await push.write(frame)
        for _ in range(chunks):
            await moves.acquire()
        served.coordinator.moved = moved
        yield push


async def cut(served: Any, asked: pb.Convening, *, chunks: int, name: str = "worker-1") -> None:
    """Lose a connection after so many chunks of an update; the server has seen it."""
    async with pushing(served, asked, chunks=chunks, name=name):
        pass
    while name in served.service._pushing:
        await asyncio.sleep(0.01)


async def held(served: Any, asked: pb.Convening, weights: Weights = SIX, *, name: str = "worker-1") -> int:
    """How much of its update the server tells a worker that it has."""
    async with served.speaking(name) as client:
        return int((await client.stub.Held(head(client, asked, weights), wait_for_ready=True)).offset)


async def push(
    served: Any, asked: pb.Convening, weights: Weights, *, start: int, name: str = "worker-1"
) -> None:
    """Hand an update in from this byte on."""
    async with served.speaking(name) as client:
        said = head(client, asked, weights, start=start)
        await client.stub.Push(iter(sent(said, weights)), wait_for_ready=True)


async def finish(served: Any, asked: pb.Convening, value: float) -> None:
    """The others hand in zeros, everybody measures, and the job's model is this everywhere."""
    for name in ("worker-0", "worker-2"):
        await push(served, asked, ZERO, start=0, name=name)
    await served.hand_in(await served.called())
    async with asyncio.timeout(10):
        while not served.world.scheduler.dismissed:
            await asyncio.sleep(0.01)
    assert np.array_equal(served.storage.model("last").weights["w"], np.full(3, value, "f4"))


def test_an_upload_that_was_cut_goes_on(world: Callable[..., Any]) -> None:
    """The server has what was verified, over several cuts, and the sum has the update once."""

    async def main() -> None:
        async with training(world(rounds=1)) as (served, asked):
            assert await held(served, asked) == 0
            await cut(served, asked, chunks=1)
            assert await held(served, asked) == CHUNK
            await push(served, asked, SIX, start=CHUNK)
            with pytest.raises(grpc.aio.AioRpcError, match="nothing .more. is expected of worker-1"):
                await held(served, asked)
            await finish(served, asked, 2)

    asyncio.run(main())


def test_a_connection_that_nobody_saw_end_gives_up_what_it_brought(world: Callable[..., Any]) -> None:
    """Who comes again while the server believes the old call alive ends that, and goes on behind it."""

    async def main() -> None:
        async with training(world(rounds=1)) as (served, asked):
            async with pushing(served, asked, chunks=2) as old:
                assert await held(served, asked) == 2 * CHUNK
                assert await old.details() == "worker-1 has begun another transfer"
                await push(served, asked, SIX, start=2 * CHUNK)
            await finish(served, asked, 2)

    asyncio.run(main())


def test_who_begins_again_and_goes_at_once_is_told_so(world: Callable[..., Any]) -> None:
    """A call that a newer one has ended says so, also where that one was gone before."""

    async def main() -> None:
        async with world().serving() as served:
            begun: list[str] = []

            async def transfer(name: str) -> None:
                async with served.service._only_push("worker-1"):
                    begun.append(name)
                    await asyncio.Event().wait()

            older = asyncio.create_task(transfer("older"))
            await asyncio.sleep(0)
            newer = asyncio.create_task(transfer("newer"))
            await asyncio.sleep(0)
            newer.cancel()
            with pytest.raises(UpdateError, match="worker-1 has begun another transfer"):
                await older
            assert (begun, served.service._pushing) == (["older"], {})

    asyncio.run(main())


def test_another_update_begins_at_nothing(world: Callable[..., Any]) -> None:
    """Of another worker's update, or of another one of its own, nothing is taken for it."""

    async def main() -> None:
        async with training(world(rounds=1)) as (served, asked):
            await cut(served, asked, chunks=2)
            assert await held(served, asked, NINE) == await held(served, asked, name="worker-2") == 0
            for weights, name in ((NINE, "worker-1"), (SIX, "worker-2")):
                with pytest.raises(grpc.aio.AioRpcError, match="goes on at byte 8; expected 0") as refused:
                    await push(served, asked, weights, start=2 * CHUNK, name=name)
                assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert await held(served, asked) == 2 * CHUNK
            await push(served, asked, NINE, start=0)
            assert served.service._uploads._cut == {}
            await finish(served, asked, 3)

    asyncio.run(main())


@pytest.mark.parametrize("start", [1, CHUNK - 1, CHUNK, 3 * CHUNK, 4 * CHUNK, 2**64 - 1])
def test_a_place_where_nothing_stopped_is_refused(world: Callable[..., Any], start: int) -> None:
    """A worker is told what is here, which stays, and may go on there."""

    async def main() -> None:
        async with training(world(rounds=1)) as (served, asked):
            await cut(served, asked, chunks=2)
            sentence = f"an upload goes on at byte {start}; expected 8, which are here"
            with pytest.raises(grpc.aio.AioRpcError, match=sentence):
                await push(served, asked, SIX, start=start)
            await push(served, asked, SIX, start=2 * CHUNK)
            await finish(served, asked, 2)

    asyncio.run(main())


def test_what_was_cut_goes_with_its_attempt(world: Callable[..., Any]) -> None:
    """Once the round has no more use for it, the server keeps nothing of an upload."""

    async def main() -> None:
        async with training(world(rounds=1, minimum=2)) as (served, asked):
            await cut(served, asked, chunks=2)
            served.coordinator.lost("worker-1", "gone")
            async with asyncio.timeout(10):
                while served.service._uploads._cut:
                    await asyncio.sleep(0.01)
            with pytest.raises(grpc.aio.AioRpcError, match="nothing .more. is expected of worker-1"):
                await push(served, asked, SIX, start=2 * CHUNK)

    asyncio.run(main())


def test_who_asks_what_is_held_says_for_which_job(world: Callable[..., Any]) -> None:
    """As with every call: a worker of this job, with this plan."""

    async def main() -> None:
        async with training(world()) as (served, asked):
            async with served.speaking("observer") as client:
                with pytest.raises(grpc.aio.AioRpcError, match="may not make this call"):
                    await client.stub.Held(head(client, asked, SIX))
            async with served.speaking("worker-1") as client:
                with pytest.raises(grpc.aio.AioRpcError, match="this is job"):
                    await client.stub.Held(pb.Transfer())

    asyncio.run(main())


@pytest.mark.parametrize(("broken", "done"), [("pread", "read back from"), ("pwrite", "kept on")])
def test_a_broken_disk_under_an_update_is_told(
    world: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, broken: str, done: str
) -> None:
    """What cannot be read back ends the server as a fault of the storage; what cannot be written may be sent again."""

    def failing(*_: Any) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def main() -> None:
        one = world(rounds=1)
        async with one.serving() as served, served.running() as task:
            await served.hand_in(await served.called())
            asked, spools = await served.called(), served.service._uploads._spools
            spools.left, spools._patience = -1, 0
            with monkeypatch.context() as disk:
                disk.setattr(os, broken, failing)
                with pytest.raises(
                    grpc.aio.AioRpcError, match=f"cannot be {done} disk: Input/output error"
                ) as told:
                    await push(served, asked, SIX, start=0)
                assert told.value.code() == grpc.StatusCode.UNAVAILABLE
            if broken == "pwrite":
                await push(served, asked, SIX, start=0)
                await finish(served, asked, 2)
                return
            for name in ("worker-0", "worker-2"):
                await push(served, asked, ZERO, start=0, name=name)
            with pytest.raises(StorageError, match="cannot be read back from disk"):
                await task

    asyncio.run(main())


def test_first_weights_that_cannot_be_read_back_end_the_server(
    world: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would be brought again and again, and nothing would come of it."""

    def failing(*_: Any) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def main() -> None:
        async with world().serving() as served, served.running() as task:
            spools = served.service._uploads._spools
            spools.left, spools._patience = -1, 0
            monkeypatch.setattr(os, "pread", failing)
            with pytest.raises(grpc.aio.AioRpcError, match="cannot be read back from disk"):
                await served.hand_in(await served.called())
            with pytest.raises(StorageError, match="cannot be read back from disk: Input/output error"):
                await task

    asyncio.run(main())
