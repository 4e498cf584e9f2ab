"""A real worker whose scheduler and server order what no honest ones would, to see a model that it trained alone."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

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
from tests.rounds.secure import plan_of

pytest.importorskip("paddle")
pytestmark = [pytest.mark.rounds, pytest.mark.timeout(180)]

PROGRAM = """
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


def test_no_order_brings_a_model_that_one_worker_trained(tmp_path: Path) -> None:
    """Once it has trained and measured, a worker gives whoever orders its initial weights those of the start."""
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "net.py").write_text(PROGRAM)
    spec = {"program": {"entrypoint": "net:task", "framework": "paddle"}}
    plan = plan_of(tmp_path / "program" / "net", selection={}, secure=None, size=0, spec=spec)
    scheduler, server = Scheduler(), Cheat()

    async def told(number: int, **what: Any) -> str:
        order(number, **what)
        return str((await scheduler.said.get()).decline.reason)

    def order(number: int, **what: Any) -> None:
        scheduler.orders.put_nowait(pb.Order(context=context_of(plan, round=number, attempt=1), **what))

    async def main() -> None:
        async with facing(tmp_path, plan, scheduler, server):
            own = (await scheduler.said.get()).enrolment
            server.manifest = Manifest.from_json(own.manifest)
            order(0, initialise=pb.Initialise())
            start = server.model = await server.initial()
            assert "server refused" in await told(1, train=pb.Train(model=own.weights))
            assert "server refused" in await told(1, evaluate=pb.Evaluate(model=own.weights))
            for number in (0, 1, 2):
                order(number, initialise=pb.Initialise())
                assert await server.initial() == start

    asyncio.run(main())
