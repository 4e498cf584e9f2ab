"""A worker's conversation on loopback: a scripted scheduler and server behind the wire, and a main thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import numpy as np
import pytest

from fl_core.errors import MismatchError, ProgramError, UpdateError
from fl_core.identity import Authority, Identity
from fl_core.metrics import mean_of
from fl_core.plan import Plan
from fl_core.serving import Health
from fl_core.weights import Manifest, digest, pack
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import fl_pb2_grpc
from fl_core.wire.arrays import frames
from fl_core.wire.channels import OPTIONS, open_channel, open_port
from fl_core.wire.guard import context_of
from fl_core.wire.secagg import SHORT
from fl_worker import session as module
from fl_worker.session import Introduction, Outside, Product, Session, Work
from fl_worker.telemetry import Telemetry

pytestmark = pytest.mark.timeout(30)

MODEL = {"w": np.arange(3, dtype="f4")}
DIGEST = digest(MODEL)


class Scheduler(fl_pb2_grpc.SchedulerServicer):
    """Welcomes the worker, passes on what the test orders, keeps what the worker says, its beats apart."""

    def __init__(self) -> None:
        self.beats: list[int] = []
        self.beat_seconds = 3.0
        self.orders: asyncio.Queue[pb.Order | None] = asyncio.Queue()
        self.said: asyncio.Queue[pb.Presence] = asyncio.Queue()

    async def Attend(self, requests: Any, call: Any) -> AsyncIterator[pb.Order]:  # noqa: N802, ARG002
        listening = asyncio.create_task(self._listen(requests))
        yield pb.Order(welcome=pb.Welcome(beat_seconds=self.beat_seconds))
        while (order := await self.orders.get()) is not None:
            yield order
        listening.cancel()

    async def _listen(self, requests: Any) -> None:
        async for presence in requests:
            if presence.WhichOneof("what") == "beat":
                self.beats.append(presence.beat.moved)
            else:
                self.said.put_nowait(presence)


class Server(fl_pb2_grpc.ServerServicer):
    """Sends the model; answers each push with the next of `answers`, or well."""

    def __init__(self) -> None:
        self.answers: list[tuple[grpc.StatusCode, str]] = []
        self.pushed: asyncio.Queue[list[pb.Frame]] = asyncio.Queue()
        self.measured: asyncio.Queue[pb.MeasureRequest] = asyncio.Queue()

    async def Pull(self, request: Any, call: Any) -> AsyncIterator[pb.Frame]:  # noqa: N802, ARG002
        manifest = Manifest.of(MODEL)
        head = pb.Transfer(kind=pb.KIND_MODEL, manifest=manifest.to_json(), nbytes=manifest.nbytes, clip=0.25)
        for frame in frames(head, pack(MODEL)):
            yield pb.Frame.FromString(frame)

    async def Push(self, requests: Any, call: Any) -> pb.Ack:  # noqa: N802
        got = [frame async for frame in requests]
        if self.answers:
            await call.abort(*self.answers.pop(0))
        self.pushed.put_nowait(got)
        return pb.Ack()

    async def Measure(self, request: Any, call: Any) -> pb.Ack:  # noqa: N802, ARG002
        self.measured.put_nowait(request)
        return pb.Ack()


@dataclass
class World:
    """The worker's session at work, with what surrounds it."""

    plan: Plan
    scheduler: Scheduler = field(default_factory=Scheduler)
    server: Server = field(default_factory=Server)
    health: Health = field(default_factory=Health)
    steps: int = 0
    grace: float = 20.0
    protection: Any = None
    session: Session | None = None
    works: list[Work] = field(default_factory=list)
    begun: threading.Event = field(default_factory=threading.Event)
    free: threading.Event = field(default_factory=threading.Event)
    outcome: Callable[[Work], Product] = lambda work: Product(
        7, {"loss": mean_of(1.0, 7)}, None if work.kind == "evaluate" else MODEL
    )

    def order(self, number: int = 1, **what: Any) -> None:
        """Order something for a round; training unless told otherwise."""
        context = context_of(self.plan, round=number, attempt=1)
        what = what or {"train": pb.Train(model=DIGEST)}
        self.scheduler.orders.put_nowait(pb.Order(context=context, **what))

    def part(self) -> None:
        """Tell the worker to end."""
        if self.session is not None:
            self.session.part()

    def work_off(self, inbox: SimpleQueue[Work | None]) -> None:
        """What the main thread does."""
        while (work := inbox.get()) is not None:
            self.works.append(work)
            self.begun.set()
            self.free.wait()
            try:
                work.result.set_result(self.outcome(work))
            except Exception as error:  # noqa: BLE001 - handed on
                work.result.set_exception(error)

    @asynccontextmanager
    async def attending(self, folder: Path) -> AsyncIterator[asyncio.Task[bool]]:
        """A session that attends until the block ends."""
        authority, ports = Authority("0"), {}
        for name in ("scheduler", "server", "worker"):
            authority.issue(Identity("0", name, 0 if name == "worker" else None)).write(folder / name)
        scheduler, server = grpc.aio.server(options=OPTIONS), grpc.aio.server(options=OPTIONS)
        fl_pb2_grpc.add_SchedulerServicer_to_server(self.scheduler, scheduler)
        fl_pb2_grpc.add_ServerServicer_to_server(self.server, server)
        for name, one in (("scheduler", scheduler), ("server", server)):
            ports[name] = await open_port(one, "127.0.0.1:0", folder / name)
            await one.start()
        inbox: SimpleQueue[Work | None] = SimpleQueue()
        main = threading.Thread(target=self.work_off, args=(inbox,), daemon=True)
        main.start()
        own = Introduction(DIGEST, Manifest.of(MODEL), moves=True)
        outside = Outside(Telemetry(), self.health)
        session = self.session = Session(
            self.plan,
            own,
            inbox=inbox,
            steps=lambda: self.steps,
            outside=outside,
            protection=self.protection,
            grace=self.grace,
        )
        async with (
            open_channel(ports["scheduler"], folder / "worker", peer="scheduler") as to_scheduler,
            open_channel(ports["server"], folder / "worker", peer="server") as to_server,
        ):
            task = asyncio.create_task(session.attend(to_scheduler, to_server))
            try:
                yield task
            finally:
                self.free.set()
                inbox.put(None)
                main.join()
                task.cancel()
                await asyncio.wait({task})
        await scheduler.stop(None)
        await server.stop(None)


@pytest.fixture
def world(write: Callable[..., Any]) -> World:
    """A world whose main thread is free."""
    one = World(write("").plan.model_copy(update={"rounds": 9}))
    one.free.set()
    return one


def test_an_order_is_pulled_made_and_handed_in(world: World, tmp_path: Path) -> None:
    """The main thread gets the model and the round; the server gets the update with examples and metrics."""

    async def main() -> None:
        async with world.attending(tmp_path):
            world.order(4)
            head, chunk = await world.server.pushed.get()
            assert (head.transfer.context.round, head.transfer.examples) == (4, 7)
            assert '"loss"' in head.transfer.metrics
            assert chunk.chunk.data == bytes(pack(MODEL))
            world.order(4, evaluate=pb.Evaluate(model=DIGEST))
            assert (await world.server.measured.get()).model == DIGEST
        assert [(work.kind, work.round) for work in world.works] == [("train", 4), ("evaluate", 4)]
        assert np.array_equal(world.works[0].weights["w"], MODEL["w"])
        assert [work.clip for work in world.works] == [0.25, 0.25]

    asyncio.run(main())


def test_a_worker_is_ready_while_it_is_enrolled(world: World, tmp_path: Path) -> None:
    """It introduces itself first, is ready from the welcome on, and no more when the job is over."""

    async def main() -> None:
        async with world.attending(tmp_path) as task:
            assert not world.health.ready
            assert (await world.scheduler.said.get()).enrolment.weights == DIGEST
            world.order()
            await world.server.pushed.get()
            assert world.health.ready
            world.order(stop=pb.Stop(reason="done"))
            assert not await task
            assert not world.health.ready

    asyncio.run(main())


def test_a_beat_tells_that_a_worker_moves_and_not_how_much(world: World, tmp_path: Path) -> None:
    """However many steps lie between two beats, which would tell how much data it has, the number grows by one."""
    world.scheduler.beat_seconds = 0.02

    async def after(steps: int) -> int:
        world.steps += steps
        heard = len(world.scheduler.beats)
        while len(world.scheduler.beats) < heard + 3:
            await asyncio.sleep(0.01)
        return world.scheduler.beats[-1]

    async def main() -> None:
        async with world.attending(tmp_path):
            assert [await after(steps) for steps in (0, 1, 1000, 0, 3)] == [0, 1, 2, 2, 3]

    asyncio.run(main())


def test_a_silent_server_is_tried_again(world: World, tmp_path: Path) -> None:
    """A push that finds no server is repeated, without training again."""
    world.server.answers = [(grpc.StatusCode.UNAVAILABLE, "away")] * 2

    async def main() -> None:
        async with world.attending(tmp_path):
            world.order()
            await world.server.pushed.get()
            assert len(world.works) == 1

    asyncio.run(main())


def test_a_refused_update_is_declined(world: World, tmp_path: Path) -> None:
    """The scheduler hears at once that nothing more comes, and why, so that no round waits for its deadline."""
    world.server.answers = [(grpc.StatusCode.INVALID_ARGUMENT, "training has diverged")]

    async def main() -> None:
        async with world.attending(tmp_path):
            await world.scheduler.said.get()
            world.order(2)
            said = await world.scheduler.said.get()
            assert said.decline.reason == "the server refused: training has diverged"
            assert said.context.round == 2

    asyncio.run(main())


def test_no_more_rounds_are_trained_than_the_plan_has(world: World, tmp_path: Path) -> None:
    """A server that asks for a round after the last, or before the first, gets nothing."""

    async def main() -> None:
        async with world.attending(tmp_path):
            await world.scheduler.said.get()
            for number in (10, 0):
                world.order(number)
                told = (await world.scheduler.said.get()).decline.reason
                assert f"round {number} is asked for; only the 9 that the plan has are trained" in told
            world.order(9)
            await world.server.pushed.get()
        assert [work.round for work in world.works] == [9]

    asyncio.run(main())


def test_a_refused_order_may_come_again(world: World, tmp_path: Path) -> None:
    """A server that was restarted and has not opened its round yet refuses; when it orders the same, it gets it."""
    world.server.answers = [(grpc.StatusCode.INVALID_ARGUMENT, "the server is Waiting")]

    async def main() -> None:
        async with world.attending(tmp_path):
            await world.scheduler.said.get()
            world.order()
            assert (await world.scheduler.said.get()).HasField("decline")
            world.order()
            await world.server.pushed.get()
            assert len(world.works) == 1

    asyncio.run(main())


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


def test_a_spoilt_round_is_declined(world: World, tmp_path: Path) -> None:
    """A worker that has nothing to hand in says why, and stays."""

    def spoilt(_: Work) -> Product:
        raise UpdateError("not finite")

    world.outcome = spoilt

    async def main() -> None:
        async with world.attending(tmp_path) as task:
            await world.scheduler.said.get()
            world.order()
            assert (await world.scheduler.said.get()).decline.reason == "not finite"
            assert not task.done()

    asyncio.run(main())


def test_a_failed_program_takes_its_leave(world: World, tmp_path: Path) -> None:
    """A worker whose program fails says so in one line, without the traceback, and attends no more."""

    def failed(_: Work) -> Product:
        raise ProgramError("the program raised KeyError\nTraceback: secret")

    world.outcome = failed

    async def main() -> None:
        async with world.attending(tmp_path) as task:
            await world.scheduler.said.get()
            world.order()
            assert (await world.scheduler.said.get()).leave.reason == "the program raised KeyError"
            world.scheduler.orders.put_nowait(None)
            with pytest.raises(ProgramError):
                await task

    asyncio.run(main())


def test_what_was_trained_is_handed_in_again(world: World, tmp_path: Path) -> None:
    """A server that was restarted asks for the same round: it gets the same update, made once."""

    async def main() -> None:
        async with world.attending(tmp_path):
            world.order()
            first = await world.server.pushed.get()
            world.order(release=pb.Release())
            world.order()
            assert await world.server.pushed.get() == first
            assert len(world.works) == 1

    asyncio.run(main())


def test_training_outlives_a_release(world: World, tmp_path: Path) -> None:
    """An order that is taken back while the program trains and given again finds the training that goes on."""
    world.free.clear()

    async def main() -> None:
        async with world.attending(tmp_path):
            world.order()
            world.order(release=pb.Release())
            world.order()
            await world.scheduler.said.get()
            world.free.set()
            await world.server.pushed.get()
            assert len(world.works) == 1

    asyncio.run(main())


def test_a_busy_program_declines_the_next_round(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that does not come back costs later rounds a moment, and takes part again once it is free."""
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.05)
    world.plan = with_deadline(world.plan, 0.01)
    world.free.clear()

    async def main() -> None:
        async with world.attending(tmp_path):
            await world.scheduler.said.get()
            world.order(1, initialise=pb.Initialise())
            world.order(2)
            reason = (await world.scheduler.said.get()).decline.reason
            assert reason == "the program is still busy: initialise, round 1"
            world.free.set()
            world.order(3)
            head, _ = await world.server.pushed.get()
            assert head.transfer.context.round == 3

    asyncio.run(main())


def test_a_slow_program_is_waited_for(world: World, tmp_path: Path) -> None:
    """An order of the next round waits for the training that goes on, and is carried out after it."""
    world.free.clear()

    async def main() -> None:
        async with world.attending(tmp_path):
            await world.scheduler.said.get()
            world.order(1, initialise=pb.Initialise())
            world.order(2)
            world.order(3, release=pb.Release())
            world.order(4)
            await asyncio.to_thread(world.begun.wait)
            world.free.set()
            head, _ = await world.server.pushed.get()
            assert head.transfer.context.round == 4
            assert world.scheduler.said.empty()

    asyncio.run(main())


def with_deadline(plan: Plan, seconds: float) -> Plan:
    selection = plan.selection.model_copy(update={"deadline_seconds": seconds})
    return plan.model_copy(update={"selection": selection})


def test_a_worker_enrols_again(world: World, tmp_path: Path) -> None:
    """A scheduler that ends the call is dialled again, and gets the whole introduction."""

    async def main() -> None:
        async with world.attending(tmp_path):
            first = await world.scheduler.said.get()
            world.scheduler.orders.put_nowait(None)
            assert await world.scheduler.said.get() == first

    asyncio.run(main())


def test_a_refusal_ends_the_worker(world: World, tmp_path: Path) -> None:
    """A worker that does not fit ends with the scheduler's sentence, for good."""

    async def main() -> None:
        async with world.attending(tmp_path) as task:
            world.order(refusal=pb.Refusal(sentence="other arrays"))
            with pytest.raises(MismatchError, match="other arrays"):
                await task

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
