"""A scheduler on loopback with mutual TLS; workers and server are bare clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from fl_core.identity import Authority, Credentials, Identity
from fl_core.plan import Plan, Program
from fl_core.weights import Manifest
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import fl_pb2_grpc
from fl_core.wire.channels import OPTIONS, open_port
from fl_core.wire.guard import context_of
from fl_scheduler.service import SchedulerService

JOB = "job-1"
PROGRAM = "c0ffee"
MANIFEST = Manifest.of({"w": np.zeros(3, "f4")}).to_json()


@dataclass
class Office:
    """A scheduler that serves."""

    folder: Path
    plan: Plan
    replicas: int | None = None
    authority: Authority = field(default_factory=lambda: Authority(JOB))

    def __post_init__(self) -> None:
        self.service = SchedulerService(self.plan, replicas=self.replicas)
        self.address = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Office]:
        """Serve until the block ends."""
        server = grpc.aio.server(options=OPTIONS)
        fl_pb2_grpc.add_SchedulerServicer_to_server(self.service, server)
        self.address = await open_port(server, "127.0.0.1:0", self._keys(Identity(JOB, "scheduler")))
        await server.start()
        clock = asyncio.create_task(self.service.keep_time())
        try:
            yield self
        finally:
            clock.cancel()
            await server.stop(None)

    @asynccontextmanager
    async def speaking(self, identity: Identity) -> AsyncIterator[fl_pb2_grpc.SchedulerStub]:
        """A client with this certificate."""
        own = Credentials.read(self._keys(identity))
        credentials = grpc.ssl_channel_credentials(own.authority, own.key, own.certificate)
        options = (*OPTIONS, ("grpc.ssl_target_name_override", Identity(JOB, "scheduler").host))
        async with grpc.aio.secure_channel(self.address, credentials, options=options) as channel:
            yield fl_pb2_grpc.SchedulerStub(channel)

    @asynccontextmanager
    async def attending(self, index: int, **changes: Any) -> AsyncIterator[Worker]:
        """A worker that has introduced itself, in the honest way but for the changes."""
        async with self.speaking(Identity(JOB, "worker", index)) as stub:
            worker = Worker(self.plan, stub.Attend())
            honest = {"program": PROGRAM, "weights": "same", "manifest": MANIFEST, "moves": True}
            await worker.say(enrolment=pb.Enrolment(**{**honest, **changes}))
            yield worker
            worker.call.cancel()

    @asynccontextmanager
    async def convening(self, number: int, **fields: Any) -> AsyncIterator[Callable[[], Any]]:
        """The server's open call; what is yielded gives the next event."""
        async with self.speaking(Identity(JOB, "server")) as stub:
            request = pb.Convening(context=context_of(self.plan, round=number, attempt=1), **fields)
            call = stub.Convene(request)
            yield lambda: _next(call)
            call.cancel()

    def _keys(self, identity: Identity) -> Path:
        folder = self.folder / identity.uri.replace("/", "_")
        if not folder.exists():
            self.authority.issue(identity).write(folder)
        return folder


@dataclass
class Worker:
    """A worker's open call."""

    plan: Plan
    call: Any

    async def say(self, number: int = 0, **what: Any) -> None:
        """Send a presence."""
        await self.call.write(pb.Presence(context=context_of(self.plan, round=number, attempt=1), **what))

    async def hears(self) -> pb.Order | None:
        """The next order; None when the scheduler has ended the call."""
        return await _next(self.call)


async def _next(call: Any) -> Any:
    async with asyncio.timeout(10):
        message = await call.read()
    return None if message is grpc.aio.EOF else message


@pytest.fixture
def office(tmp_path: Path, plan_of: Callable[..., Plan]) -> Callable[..., Office]:
    """Build a scheduler; its replicas, and the plan's and selection's fields by name."""
    program = Program(entrypoint="toy:task", framework="numpy", sha256=PROGRAM)
    usual = {"program": program, "join_seconds": 0.2}
    return lambda replicas=None, **changes: Office(tmp_path, plan_of(**{**usual, **changes}), replicas)
