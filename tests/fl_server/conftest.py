"""A server on loopback with mutual TLS, a scripted scheduler behind the wire, and workers as bare clients."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from fl_core.identity import Authority, Credentials, Identity
from fl_core.metrics import mean_of
from fl_core.plan import Plan
from fl_core.weights import Manifest, Weights, digest, pack
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import fl_pb2_grpc
from fl_core.wire.arrays import frames
from fl_core.wire.channels import OPTIONS, open_channel, open_port
from fl_core.wire.guard import context_of
from fl_server import download
from fl_server.coordinator import Coordinator
from fl_server.service import ServerService
from fl_server.storage import Storage
from fl_server.summons import Summons

JOB = "job-1"
WORKERS = ("worker-0", "worker-1", "worker-2")
ZERO = {"w": np.zeros(3, "f4")}


class Scripted(fl_pb2_grpc.SchedulerServicer):
    """Answers each call with the cohort that is asked for, or with what `script` yields for it."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[pb.Convening] = asyncio.Queue()
        self.dismissed: list[str] = []
        self.broken = asyncio.Event()
        self.script: Callable[[pb.Convening], Sequence[pb.CohortEvent]] = willing

    async def Convene(self, request: pb.Convening, call: Any) -> AsyncIterator[pb.CohortEvent]:  # noqa: N802
        self.calls.put_nowait(request)
        for event in self.script(request):
            yield event
        self.broken = asyncio.Event()
        await self.broken.wait()
        await call.abort(grpc.StatusCode.UNAVAILABLE, "the scheduler goes")

    def break_off(self) -> None:
        """End the open call from this side."""
        self.broken.set()

    async def Dismiss(self, request: pb.Dismissal, call: Any) -> pb.Ack:  # noqa: N802, ARG002
        self.dismissed.append(request.reason)
        return pb.Ack()


def willing(request: pb.Convening) -> Sequence[pb.CohortEvent]:
    """All workers are there."""
    what = request.WhichOneof("purpose")
    named = request.evaluate.workers or request.rejoin.workers
    workers = WORKERS[:1] if what == "initialise" else named or WORKERS
    asked = {"weights": digest(ZERO), "manifest": Manifest.of(ZERO).digest}
    return [pb.CohortEvent(cohort=pb.Cohort(workers=workers, **asked))]


@dataclass
class World:
    """One job's server, and who speaks to it."""

    folder: Path
    plan: Plan
    authority: Authority = field(default_factory=lambda: Authority(JOB))
    scheduler: Scripted = field(default_factory=Scripted)

    def identity(self, name: str) -> Path:
        """The folder with this process's certificate."""
        role, _, index = name.partition("-")
        folder = self.folder / "keys" / name
        if not folder.exists():
            self.authority.issue(Identity(JOB, role, int(index) if index else None)).write(folder)
        return folder

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Served]:
        """A server and a scheduler that listen; the coordinator does not run yet."""
        scheduler, server = grpc.aio.server(options=OPTIONS), grpc.aio.server(options=OPTIONS)
        fl_pb2_grpc.add_SchedulerServicer_to_server(self.scheduler, scheduler)
        to_scheduler = await open_port(scheduler, "127.0.0.1:0", self.identity("scheduler"))
        await scheduler.start()
        storage = Storage(self.folder / "storage", self.plan)
        async with open_channel(to_scheduler, self.identity("server"), peer="scheduler") as channel:
            credentials = Credentials.read(self.identity("server"))
            coordinator = Coordinator(
                self.plan,
                storage,
                Summons(self.plan, channel, epoch=storage.fence.epoch),
                credentials=credentials,
            )
            service = ServerService(self.plan, storage, coordinator)
            service.add_to(server)
            address = await open_port(server, "127.0.0.1:0", self.identity("server"))
            await server.start()
            try:
                yield Served(self, coordinator, storage, service, address)
            finally:
                await server.stop(None)
                await scheduler.stop(None)


@dataclass
class Served:
    """A server that listens."""

    world: World
    coordinator: Coordinator
    storage: Storage
    service: ServerService
    address: str

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        """The coordinator at work, until the block ends."""
        task = asyncio.create_task(self.coordinator.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def called(self) -> pb.Convening:
        """The server's next call to the scheduler."""
        async with asyncio.timeout(10):
            return await self.world.scheduler.calls.get()

    @asynccontextmanager
    async def speaking(self, name: str) -> AsyncIterator[Client]:
        """A worker's side of the wire."""
        async with open_channel(self.address, self.world.identity(name), peer="server") as channel:
            yield Client(self.world.plan, fl_pb2_grpc.ServerStub(channel))

    async def hand_in(self, request: pb.Convening) -> None:
        """Do what all workers would do for this call; worker n's update is n everywhere."""
        for index, name in enumerate(WORKERS):
            async with self.speaking(name) as client:
                match request.WhichOneof("purpose"):
                    case "initialise" if index == 0:
                        await client.push(request.context, ZERO, kind=pb.KIND_INITIAL)
                    case "train":
                        await client.push(request.context, update(index), model=request.model)
                    case "evaluate":
                        await client.measure(request, loss=float(index))


def update(value: float) -> Weights:
    """The same number everywhere."""
    return {"w": np.full(3, value, "f4")}


@dataclass
class Client:
    """A worker that says what it is told to say."""

    plan: Plan
    stub: fl_pb2_grpc.ServerStub

    def head(self, place: pb.Context, weights: Weights, **fields: Any) -> pb.Transfer:
        """An honest head of a transfer, with some fields changed."""
        manifest = Manifest.of(weights)
        context = context_of(self.plan, round=place.round, attempt=place.attempt)
        honest = {"kind": pb.KIND_UPDATE, "manifest": manifest.to_json(), "nbytes": manifest.nbytes}
        return pb.Transfer(context=context, **{**honest, "examples": 1, **fields})

    async def push(self, place: pb.Context, weights: Weights, **fields: Any) -> pb.Ack:
        """Hand in weights."""
        head = self.head(place, weights, **fields)
        sent = iter([pb.Frame.FromString(part) for part in frames(head, pack(weights))])
        return await self.stub.Push(sent, wait_for_ready=True)

    async def measure(self, request: pb.Convening, *, loss: float, examples: int = 1) -> pb.Ack:
        """Hand in a measurement of so many examples."""
        metrics = json.dumps({"loss": mean_of(loss, examples).to_json()})
        place = context_of(self.plan, round=request.context.round, attempt=request.context.attempt)
        said = pb.MeasureRequest(context=place, model=request.model, metrics=metrics)
        return await self.stub.Measure(said, wait_for_ready=True)


@pytest.fixture
def world(tmp_path: Path, plan_of: Callable[..., Plan]) -> Callable[..., World]:
    """Build a job's world; the plan's and selection's fields by name."""
    return lambda **changes: World(tmp_path, plan_of(**changes))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power is cut, and who asks again does so soon."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(download, "PAUSES", (0.001, 0.01))


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """A store."""
    (tmp_path / "store").mkdir()
    return f"file://{tmp_path}/store"
