"""A real worker whose scheduler and server order what no honest ones would, to see what it has made alone."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from fl_core.alone import stay_alone
from fl_core.errors import StorageError
from fl_core.identity import Authority, Identity
from fl_core.plan import Plan
from fl_core.weights import Manifest
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import fl_pb2_grpc
from fl_core.wire.arrays import frames
from fl_core.wire.channels import OPTIONS, open_port
from fl_core.wire.guard import context_of
from tests.fl_worker.loopback import Scheduler, Server
from tests.rounds.conftest import UID
from tests.rounds.secure import PROGRAM as HOSPITAL
from tests.rounds.secure import plan_of

pytestmark = [pytest.mark.rounds, pytest.mark.timeout(90)]

PADDLE = """
import paddle
from fl_worker import Task

def sgd(parameters, round):
    return paddle.optimizer.SGD(0.1, parameters)

def task(config, site):
    data = [(paddle.ones([4, 3]), paddle.ones([4, 1]))]
    layer = paddle.nn.Sequential(paddle.nn.Linear(3, 2), paddle.nn.BatchNorm1D(2), paddle.nn.Linear(2, 1))
    loss = paddle.nn.functional.mse_loss
    return Task(model=layer, train=data, test=data, loss=loss, optimizer=sgd, buffers="local")
"""


class Cheat(Server):
    """Gives out one model, takes all that comes in the clear, and sums nothing."""

    manifest: Manifest
    model: bytes

    async def Pull(self, request: Any, call: Any) -> AsyncIterator[pb.Frame]:  # noqa: N802, ARG002
        head = pb.Transfer(kind=pb.KIND_MODEL, manifest=self.manifest.to_json(), nbytes=self.manifest.nbytes)
        for frame in frames(head, memoryview(self.model)):
            yield pb.Frame.FromString(frame)

    async def initial(self) -> bytes:
        """The bytes that came as initial weights."""
        head, *chunks = await self.pushed.get()
        assert head.transfer.kind == pb.KIND_INITIAL
        return b"".join(frame.chunk.data for frame in chunks)


@asynccontextmanager
async def facing(folder: Path, plan: Plan, scheduler: Scheduler, server: Server) -> AsyncIterator[None]:
    """A real worker process that takes these two for its job's scheduler and server."""
    authority = Authority(UID)
    for name in ("scheduler", "server", "worker"):
        authority.issue(Identity(UID, name, 0 if name == "worker" else None)).write(folder / name)
    one, other = grpc.aio.server(options=OPTIONS), grpc.aio.server(options=OPTIONS)
    fl_pb2_grpc.add_SchedulerServicer_to_server(scheduler, one)
    fl_pb2_grpc.add_ServerServicer_to_server(server, other)
    options = {"plan": folder / "plan.json", "identity": folder / "worker", "program": folder / "program"}
    for name, each in (("scheduler", one), ("server", other)):
        options[name] = await open_port(each, "127.0.0.1:0", folder / name)
        await each.start()
    options["plan"].write_text(plan.to_json())
    flags = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fl_worker", "train", "--index", "0", *flags
    )
    try:
        yield
    finally:
        worker.kill()
        await worker.wait()
        await one.stop(None)
        await other.stop(None)


@dataclass
class Orders:
    """What a worker of a job with this program is ordered, and how it answers."""

    folder: Path
    text: str
    spec: dict[str, Any]
    secure: Any = None
    scheduler: Scheduler = field(default_factory=Scheduler)
    server: Cheat = field(default_factory=Cheat)
    model: str = ""

    def __post_init__(self) -> None:
        program = self.folder / "program" / "alone.py"
        program.parent.mkdir()
        program.write_text(self.text)
        self.plan = plan_of(program.with_suffix(""), selection={}, secure=self.secure, size=8, spec=self.spec)

    def order(self, number: int, **what: Any) -> None:
        """Order something for a round."""
        place = context_of(self.plan, round=number, attempt=1)
        self.scheduler.orders.put_nowait(pb.Order(context=place, **what))

    async def declined(self, number: int, **what: Any) -> str:
        """Order something, and give the reason for which it is declined."""
        self.order(number, **what)
        return str((await self.scheduler.said.get()).decline.reason)

    @asynccontextmanager
    async def begun(self) -> AsyncIterator[None]:
        """A worker process that has enrolled, and handed in its initial weights."""
        async with facing(self.folder, self.plan, self.scheduler, self.server):
            own = (await self.scheduler.said.get()).enrolment
            self.model, self.server.manifest = own.weights, Manifest.from_json(own.manifest)
            self.order(0, initialise=pb.Initialise())
            self.server.model = await self.server.initial()
            yield


def test_no_order_brings_a_model_that_one_worker_trained(tmp_path: Path) -> None:
    """Once it has trained and measured, a worker gives whoever orders its initial weights those of the start."""
    pytest.importorskip("paddle")
    one = Orders(tmp_path, PADDLE, {"program": {"entrypoint": "alone:task", "framework": "paddle"}})

    async def main() -> None:
        async with one.begun():
            assert "server refused" in await one.declined(1, train=pb.Train(model=one.model))
            assert "server refused" in await one.declined(1, evaluate=pb.Evaluate(model=one.model))
            for number in (0, 1, 2):
                one.order(number, initialise=pb.Initialise())
                assert await one.server.initial() == one.server.model

    asyncio.run(main())


def test_two_processes_are_not_the_same_worker(tmp_path: Path) -> None:
    """While a worker runs, no other process can be the worker of its identity."""
    one = Orders(tmp_path, HOSPITAL, {})

    async def main() -> None:
        async with one.begun():
            with pytest.raises(StorageError, match="one process at a time may be the worker of an identity"):
                stay_alone(tmp_path / "worker", patience=0)

    asyncio.run(main())


def test_no_order_without_a_model_passes_by_the_noise(tmp_path: Path) -> None:
    """A worker whose updates leave with noise hands in nothing for an order that names no model to make one from."""
    mechanism = {"name": "local", "clip": 1.0, "noiseMultiplier": 2.0}
    private = {"privacy": {"mechanism": mechanism, "budget": {"epsilon": 50, "delta": 1e-5}}}
    one = Orders(tmp_path, HOSPITAL, private, secure={"enabled": False})

    async def main() -> None:
        async with one.begun():
            one.order(1, train=pb.Train(model=one.model))
            head, *_ = await one.server.pushed.get()
            assert head.transfer.kind == pb.KIND_UPDATE
            assert "an order to train in round 2 names no model" in await one.declined(2, train=pb.Train())
            assert "names no model" in await one.declined(2, evaluate=pb.Evaluate())
            assert "round 4 is asked for" in await one.declined(4, evaluate=pb.Evaluate(model=one.model))
            assert one.server.pushed.empty()
            assert one.server.measured.empty()

    asyncio.run(main())
