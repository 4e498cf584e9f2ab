"""What a worker takes from the server and gives it, within a session on loopback."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from fl_core.errors import UpdateError
from fl_core.weights import Manifest, Weights, digest, pack
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import fl_pb2_grpc
from fl_core.wire.arrays import CHUNK, frames
from fl_core.wire.channels import OPTIONS
from fl_core.wire.guard import context_of
from fl_core.wire.secagg import SHORT
from fl_worker.exchange import Exchange
from fl_worker.product import Product
from fl_worker.telemetry import Telemetry
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


@pytest.mark.parametrize("image", ["registry.example/worker:1", ""])
def test_an_update_says_its_workers_image(world: World, tmp_path: Path, image: str) -> None:
    """As the worker was told it; where it was told none it says none."""
    world.image = image

    async def main() -> None:
        async with world.attending(tmp_path):
            await world.scheduler.said.get()
            world.free.set()
            world.order()
            head, *_ = await world.server.pushed.get()
            assert head.transfer.image == image

    asyncio.run(main())


def test_the_ranges_that_came_with_a_model_go_into_its_sum(world: World, tmp_path: Path) -> None:
    """What is handed in comes with the ranges of the model that it was made from."""

    class Protection:
        async def hand_in(self, *_: Any, exponents: tuple[int, ...], **__: Any) -> bool:
            found.put_nowait(exponents)
            return True

    world.protection = Protection()
    world.free.set()
    found: asyncio.Queue[tuple[int, ...]] = asyncio.Queue()

    async def main() -> None:
        async with world.attending(tmp_path):
            world.order()
            assert await found.get() == (3, -2)

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


LARGE = {"w": np.arange(CHUNK // 4 * 2 + 5, dtype="f4")}
PLACE = pb.Context(round=1, attempt=1)


class Breaking(fl_pb2_grpc.ServerServicer):
    """Gives models from where they are asked for: of each call so many chunks, and then the call breaks."""

    def __init__(self, *calls: tuple[Weights, int]) -> None:
        self.calls = list(calls)
        self.asked: list[int] = []
        self.ends = grpc.StatusCode.UNAVAILABLE

    async def Pull(self, request: Any, call: Any) -> AsyncIterator[pb.Frame]:  # noqa: N802
        self.asked.append(request.offset)
        weights, lasting = self.calls.pop(0)
        manifest = Manifest.of(weights)
        whole = pb.Transfer(kind=pb.KIND_MODEL, manifest=manifest.to_json(), nbytes=manifest.nbytes)
        head, *chunks = map(pb.Frame.FromString, frames(whole, pack(weights)))
        left = [frame for frame in chunks if frame.chunk.offset >= request.offset]
        for frame in (head, *left[:lasting]):
            yield frame
        if lasting < len(left):
            await call.abort(self.ends, "the connection broke")


@asynccontextmanager
async def exchange(with_server: Breaking | Cutting) -> AsyncIterator[Exchange]:
    """A worker's exchange with this server."""
    server = grpc.aio.server(options=OPTIONS)
    fl_pb2_grpc.add_ServerServicer_to_server(with_server, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
        yield Exchange(channel, Manifest.of(LARGE), Telemetry())
    await server.stop(None)


def test_a_model_that_broke_off_goes_on_where_it_stopped() -> None:
    """What a broken call has brought is not asked for again, and the model is whole."""
    breaking = Breaking((LARGE, 1), (LARGE, 0), (LARGE, 1), (LARGE, 3))

    async def main() -> None:
        async with exchange(breaking) as worker:
            for _ in range(3):
                with pytest.raises(grpc.aio.AioRpcError):
                    await worker.pull(PLACE, digest(LARGE))
            pulled = await worker.pull(PLACE, digest(LARGE))
            assert pulled.weights is not None
            assert digest(pulled.weights) == digest(LARGE)

    asyncio.run(main())
    assert breaking.asked == [0, CHUNK, CHUNK, 2 * CHUNK]


def test_of_a_model_that_is_refused_nothing_is_kept() -> None:
    """The buffer goes with the answer that it is not the open round's; one that broke off stays."""
    breaking = Breaking((LARGE, 1), (LARGE, 1))

    async def main() -> None:
        async with exchange(breaking) as worker:
            with pytest.raises(grpc.aio.AioRpcError, match="the connection broke"):
                await worker.pull(PLACE, digest(LARGE))
            assert worker._begun is not None
            breaking.ends = grpc.StatusCode.FAILED_PRECONDITION
            with pytest.raises(grpc.aio.AioRpcError, match="FAILED_PRECONDITION"):
                await worker.pull(PLACE, digest(LARGE))
            assert worker._begun is None

    asyncio.run(main())


def test_parts_of_two_models_are_no_model() -> None:
    """A model that came in two calls has the digest that was asked for, or is refused and comes anew."""
    other = {"w": LARGE["w"] + 1}
    breaking = Breaking((other, 1), (LARGE, 3), (LARGE, 3))

    async def main() -> None:
        async with exchange(breaking) as worker:
            with pytest.raises(grpc.aio.AioRpcError):
                await worker.pull(PLACE, digest(LARGE))
            with pytest.raises(UpdateError, match=f"as {digest(LARGE)[:12]}"):
                await worker.pull(PLACE, digest(LARGE))
            await worker.pull(PLACE, digest(LARGE))

    asyncio.run(main())
    assert breaking.asked == [0, CHUNK, 0]


def test_another_model_begins_anew() -> None:
    """Of a model that broke off nothing is used for another."""
    other = {"w": LARGE["w"] + 1}
    breaking = Breaking((other, 1), (LARGE, 3))

    async def main() -> None:
        async with exchange(breaking) as worker:
            with pytest.raises(grpc.aio.AioRpcError):
                await worker.pull(PLACE, digest(other))
            pulled = await worker.pull(PLACE, digest(LARGE))
            assert pulled.weights is not None
            assert digest(pulled.weights) == digest(LARGE)

    asyncio.run(main())
    assert breaking.asked == [0, 0]


class Cutting(fl_pb2_grpc.ServerServicer):
    """Takes uploads: of each call so many chunks, and then the call breaks; it says that it `holds` what came."""

    def __init__(self, *calls: int) -> None:
        self.calls = list(calls)
        self.asked: list[str] = []
        self.heads: list[pb.Transfer] = []
        self.came: list[tuple[int, bytes]] = []
        self.holds: int | None = None

    async def Held(self, request: Any, call: Any) -> pb.Position:  # noqa: N802, ARG002
        self.asked.append(request.digest)
        return pb.Position(offset=self.position if self.holds is None else self.holds)

    @property
    def position(self) -> int:
        """Bytes that have come."""
        return sum(len(data) for _, data in self.came)

    async def Push(self, requests: Any, call: Any) -> pb.Ack:  # noqa: N802
        self.heads.append((await anext(requests)).transfer)
        for _ in range(self.calls.pop(0)):
            if not (frame := await anext(requests, None)):
                break
            self.came.append((frame.chunk.offset, frame.chunk.data))
        else:
            await call.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
        return pb.Ack()


ALL = 4
"""More chunks than there are."""


def product(weights: Weights) -> Product:
    return Product(7, {}, weights)


def test_an_upload_that_broke_off_goes_on_where_it_stopped() -> None:
    """Only after a break is it asked what has come, and each byte is taken once."""
    cutting = Cutting(1, 0, 1, ALL, ALL)

    async def main() -> None:
        async with exchange(cutting) as worker:
            for _ in range(3):
                with pytest.raises(grpc.aio.AioRpcError, match="the connection broke"):
                    await worker.push(PLACE, pb.KIND_UPDATE, product(LARGE))
            await worker.push(PLACE, pb.KIND_UPDATE, product(LARGE))
            assert b"".join(data for _, data in cutting.came) == bytes(pack(LARGE))
            assert [offset for offset, _ in cutting.came] == [0, CHUNK, 2 * CHUNK]
            await worker.push(PLACE, pb.KIND_UPDATE, product(LARGE))

    asyncio.run(main())
    assert [one.start for one in cutting.heads] == [0, CHUNK, CHUNK, 2 * CHUNK, 0]
    assert cutting.asked == [hashlib.sha256(pack(LARGE)).hexdigest()] * 3


def test_another_update_than_the_one_that_broke_off_begins_anew() -> None:
    """A changed result is sent whole, and nothing is asked about it; nor about a short one, which names no digest."""
    cutting = Cutting(1, 1, 0, ALL)
    other, short = {"w": LARGE["w"] + 1}, {"w": np.zeros(CHUNK // 4, "f4")}

    async def main() -> None:
        async with exchange(cutting) as worker:
            for weights in (LARGE, other, short):
                with pytest.raises(grpc.aio.AioRpcError, match="the connection broke"):
                    await worker.push(PLACE, pb.KIND_UPDATE, product(weights))
            await worker.push(PLACE, pb.KIND_UPDATE, product(short))

    asyncio.run(main())
    assert (cutting.asked, {one.start for one in cutting.heads}) == ([], {0})
    assert [bool(one.digest) for one in cutting.heads] == [True, True, False, False]


@pytest.mark.parametrize("place", [1, CHUNK - 1, 3 * CHUNK, 2**64 - 1])
def test_a_server_that_wants_an_impossible_rest_gets_none(place: int) -> None:
    """Within a chunk or behind the end: the worker says so, and sends nothing."""
    cutting = Cutting(1)
    cutting.holds = place

    async def main() -> None:
        async with exchange(cutting) as worker:
            with pytest.raises(grpc.aio.AioRpcError):
                await worker.push(PLACE, pb.KIND_UPDATE, product(LARGE))
            with pytest.raises(
                UpdateError, match=f"^byte {place} of an update of {2 * CHUNK + 20} is asked for"
            ):
                await worker.push(PLACE, pb.KIND_UPDATE, product(LARGE))

    asyncio.run(main())
    assert len(cutting.heads) == 1


def test_only_what_left_is_counted_as_sent() -> None:
    """Over all calls the figure is the update, each head, and what was under way at a break."""
    cutting = Cutting(1, ALL)

    async def main() -> None:
        async with exchange(cutting) as worker:
            with pytest.raises(grpc.aio.AioRpcError):
                await worker.push(PLACE, pb.KIND_UPDATE, product(LARGE))
            before = sent(worker)
            await worker.push(PLACE, pb.KIND_UPDATE, product(LARGE))
            rest = 2 * CHUNK + 20 - cutting.heads[1].start
            assert rest < sent(worker) - before < rest + 500

    asyncio.run(main())
    assert cutting.heads[1].start == CHUNK


def sent(worker: Exchange) -> float:
    """The worker's own figure."""
    return float(worker.telemetry.bytes.labels("sent", "update")._value.get())
