"""A worker's session on loopback: a scripted scheduler and server behind the wire, and a main thread."""

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

from fl_core.identity import Authority, Identity
from fl_core.metrics import mean_of
from fl_core.plan import Plan
from fl_core.serving import Health
from fl_core.weights import Manifest, Weights, digest, pack
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import fl_pb2_grpc
from fl_core.wire.arrays import frames
from fl_core.wire.channels import OPTIONS, open_channel, open_port
from fl_core.wire.guard import context_of
from fl_worker.discretion import Discretion
from fl_worker.product import Product
from fl_worker.session import Introduction, Outside, Session, Work
from fl_worker.telemetry import Telemetry

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
    """Sends the model; answers each push with the next of `answers`, or well; `counted` are the worker's rounds."""

    def __init__(self) -> None:
        self.model: Weights = MODEL
        self.answers: list[tuple[grpc.StatusCode, str]] = []
        self.pushed: asyncio.Queue[list[pb.Frame]] = asyncio.Queue()
        self.measured: asyncio.Queue[pb.MeasureRequest] = asyncio.Queue()
        self.counted: list[int] = []
        self.recalled: list[int] = []

    async def Pull(self, request: Any, call: Any) -> AsyncIterator[pb.Frame]:  # noqa: N802, ARG002
        manifest = Manifest.of(self.model)
        said = {"manifest": manifest.to_json(), "nbytes": manifest.nbytes, "clip": 0.25, "exponents": [3, -2]}
        head = pb.Transfer(kind=pb.KIND_MODEL, **said)
        for frame in frames(head, pack(self.model)):
            yield pb.Frame.FromString(frame)

    async def Recall(self, request: Any, call: Any) -> pb.Recalled:  # noqa: N802, ARG002
        self.recalled.append(request.context.round)
        return pb.Recalled(rounds=self.counted)

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
    image: str = ""
    secret: bool = False
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
        discretion = Discretion("worker-0", secret=self.secret)
        own = Introduction(DIGEST, Manifest.of(MODEL), moves=True, discretion=discretion, image=self.image)
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
