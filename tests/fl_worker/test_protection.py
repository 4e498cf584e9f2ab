"""A worker's way into secure sums: what it refuses of a server behind the wire, and how its call ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from fl_core.errors import ProtocolError
from fl_core.identity import Identity
from fl_core.metrics import Accuracy, Measurement, mean_of
from fl_core.plan import Plan, SecureAggregation
from fl_core.secagg.job import context_of as context_of_sum
from fl_core.secagg.job import ring_of
from fl_core.secagg.ranges import HIGHEST
from fl_core.secagg.summands import MeasureSum, Schema, UpdateSum
from fl_core.weights import Manifest, digest
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import fl_pb2_grpc
from fl_core.wire.channels import OPTIONS, open_channel, open_port
from fl_core.wire.guard import context_of
from fl_core.wire.secagg import entry_in
from fl_worker.product import Product
from fl_worker.protection import SILENT, Protection
from tests.fl_core.secagg.cast import JOB, authority, me, trust

pytestmark = pytest.mark.timeout(30)

MODEL = {"w": np.zeros(3, "f4"), "b": np.zeros((), "f4")}
METRICS = {"loss": mean_of(1.5, 7), "right": Measurement(Accuracy(), np.array([1.0, 2.0]))}
SCHEMA = Schema.of(METRICS).text
MANIFEST = Manifest.of(MODEL)
TRAINED = Product(7, METRICS, {name: array + 1 for name, array in MODEL.items()})
MEASURED = Product(7, METRICS)
SECURE = SecureAggregation(profile="cross-silo", tolerate=None, bits=32, max_examples=100)

Script = Callable[["Server"], AsyncIterator[pb.HostMessage]]


@dataclass
class Server(fl_pb2_grpc.ServerServicer):
    """Says what its script says, and keeps what the worker says."""

    script: Script
    heard: asyncio.Queue[pb.MemberMessage] = field(default_factory=asyncio.Queue)
    pushed: list[bytes] = field(default_factory=list)
    ready: pb.Ready = field(default_factory=pb.Ready)

    async def Protect(self, requests: Any, call: Any) -> AsyncIterator[pb.HostMessage]:  # noqa: N802
        self.call = call

        async def listen() -> None:
            with suppress(grpc.aio.AbortError):
                async for message in requests:
                    self.heard.put_nowait(message)

        listening = asyncio.create_task(listen())
        try:
            self.ready = (await self.heard.get()).ready
            assert self.ready.schema == SCHEMA
            async for message in self.script(self):
                yield message
        finally:
            listening.cancel()
            await asyncio.wait({listening})


@dataclass
class World:
    """One worker and a server that is not to be believed."""

    folder: Path
    plan: Plan

    @asynccontextmanager
    async def _channel(self, server: Server) -> AsyncIterator[grpc.aio.Channel]:
        for name in ("server", "worker"):
            identity = Identity(JOB, name, 0 if name == "worker" else None)
            authority(JOB).issue(identity).write(self.folder / name)
        port = grpc.aio.server(options=OPTIONS)
        fl_pb2_grpc.add_ServerServicer_to_server(server, port)
        address = await open_port(port, "127.0.0.1:0", self.folder / "server")
        await port.start()
        async with open_channel(address, self.folder / "worker", peer="server") as channel:
            yield channel
        await port.stop(None)

    def hand_in(
        self, script: Script, product: Product = TRAINED, *, exponents: tuple[int, ...] = ()
    ) -> Server:
        """Hand a product in to a server that says this."""

        async def main() -> Server:
            server = Server(script)
            own = Protection(self.plan, me(0), Manifest.of(MODEL), lambda examples: examples)

            async def push(data: memoryview) -> None:
                server.pushed.append(bytes(data))

            place = context_of(self.plan, round=2, attempt=1)
            async with self._channel(server) as channel:
                await own.hand_in(
                    place, digest(MODEL), product, server=channel, push=push, exponents=exponents
                )
            return server

        return asyncio.run(main())


@pytest.fixture
def world(tmp_path: Path, plan_of: Callable[..., Plan]) -> World:
    """A worker of four in a job with secure sums."""
    return World(tmp_path, plan_of(secure_aggregation=SECURE, per_round=4, minimum=3, workers=4))


def opening(**changes: Any) -> pb.HostMessage:
    """A session for an update begins."""
    said = {"purpose": "update", "exponents": [1, 1], "schema": SCHEMA, **changes}
    return pb.HostMessage(opening=pb.Opening(**said))


def saying(*messages: pb.HostMessage) -> Script:
    """A server that says one thing after another; after an opening it hears the advertisement."""

    async def script(server: Server) -> AsyncIterator[pb.HostMessage]:
        for message in messages:
            yield message
            if message.WhichOneof("what") == "opening":
                await server.heard.get()

    return script


def unknown(message: pb.HostMessage) -> pb.HostMessage:
    """The message with a field that nobody knows."""
    return pb.HostMessage.FromString(message.SerializeToString() + b"\xfa\x3f\x01x")


WRONG = {
    "a roster before an opening": ([pb.HostMessage(roster=pb.Roster())], "the server has opened no session"),
    "a field that nobody knows": (
        [unknown(opening())],
        "the server sent fields that HostMessage does not have",
    ),
    "nothing": ([opening(), pb.HostMessage()], "the server sends nothing, which no session expects"),
    "a sum that nobody makes": ([opening(purpose="median")], "the server wants 'median' summed"),
    "a bucket that is not its own": (
        [opening(bucket=2)],
        "the server opens a session of bucket 2; this worker is in bucket 0 for good",
    ),
    "too few ranges": ([opening(exponents=[1])], "the server names the ranges [1] for 2 arrays"),
    "too wide a range": ([opening(exponents=[1, HIGHEST + 1])], "from -40 to 23"),
    "other metrics": ([opening(schema="{}")], "the server wants other metrics summed than loss, right"),
    "vectors before the roster": (
        [opening(), pb.HostMessage(dealt=pb.SealedShares())],
        "asked to mask in step ADVERTISED, expected SHARED",
    ),
    "survivors before vectors": (
        [opening(), pb.HostMessage(survivors=pb.Survivors(workers=[0, 1, 2]))],
        "asked to sign in step ADVERTISED, expected MASKED",
    ),
    "a wish for secrets at once": (
        [opening(), pb.HostMessage(agreement=pb.Agreement())],
        "asked to unmask in step ADVERTISED, expected SIGNED",
    ),
    "a roster without this worker": (
        [opening(), pb.HostMessage(roster=pb.Roster(candidates=[1, 2, 3], members=[1, 2, 3]))],
        "the roster does not hold what it advertised",
    ),
    "a roster of one": (
        [opening(), pb.HostMessage(roster=pb.Roster(candidates=[0], members=[0]))],
        "1 workers take part; secure aggregation needs at least 3",
    ),
}
"""What no honest server says, and what the worker answers it."""


@pytest.mark.parametrize("wrong", WRONG)
def test_what_no_honest_server_says_is_refused(world: World, wrong: str) -> None:
    """The worker names what is wrong, and gives nothing more away than an advertisement."""
    messages, words = WRONG[wrong]
    with pytest.raises(ProtocolError) as refused:
        world.hand_in(saying(*messages))
    assert words in str(refused.value)


def test_measurements_are_not_summed_as_an_update(world: World) -> None:
    """A worker that has measured a model gives no update, whatever the server calls the sum."""
    for purpose in ("update", "range"):
        with pytest.raises(ProtocolError, match="this worker has measured a model"):
            world.hand_in(saying(opening(purpose=purpose)), MEASURED)


def test_what_training_measured_is_in_no_sum_of_its_own(world: World) -> None:
    """Numbers of a training travel with its update only: a second sum of them, of others, would tell one worker's."""
    with pytest.raises(ProtocolError, match="wants 'measure' summed; this worker has trained a model"):
        world.hand_in(saying(opening(purpose="measure")))


def test_an_opening_shows_no_more_than_keys(world: World) -> None:
    """For each purpose the worker advertises fresh keys under its certificate, and nothing of what it holds."""

    async def script(server: Server) -> AsyncIterator[pb.HostMessage]:
        for purpose, exponents in (("range", []), ("update", [1, 1]), ("update", [1, 1])):
            yield opening(purpose=purpose, exponents=exponents)
            said = await server.heard.get()
            assert said.WhichOneof("what") == "advertisement"
            assert (said.context.round, said.context.attempt, said.advertisement.worker) == (2, 1, 0)
            keys.update(
                {said.advertisement.mask_key, said.advertisement.seal_key, said.advertisement.commitment}
            )

    keys: set[bytes] = set()
    assert world.hand_in(script).pushed == []
    assert len(keys) == 3 * 3


@pytest.mark.parametrize(
    ("product", "exponents", "sum_of"),
    [
        (
            TRAINED,
            (1, 1),
            lambda plan: ("update", UpdateSum(ring_of(plan), MANIFEST, (1, 1), Schema(SCHEMA))),
        ),
        (MEASURED, (), lambda plan: ("measure", MeasureSum(Schema(SCHEMA), ring_of(plan).members))),
        (MEASURED, (1, 1), lambda plan: ("measure", MeasureSum(Schema(SCHEMA), ring_of(plan).members))),
        (TRAINED, (), None),
    ],
)
def test_who_knows_what_is_summed_advertises_when_it_is_ready(
    world: World, product: Product, exponents: tuple[int, ...], sum_of: Any
) -> None:
    """With ranges that came with the model, or measurements, the first message holds keys signed for that very sum."""
    ready = world.hand_in(saying(), product, exponents=exponents).ready
    assert ready.HasField("advertisement") == (sum_of is not None)
    if sum_of is not None:
        purpose, summand = sum_of(world.plan)
        context = context_of_sum(
            world.plan, summand, round=2, attempt=1, purpose=purpose, model=digest(MODEL)
        )
        assert ready.context == context.digest
        entry = entry_in(ready.advertisement)
        statement = entry.statement(context.digest)
        trust().check(entry.certificate, worker=0, statement=statement, signature=entry.signature)


def test_ranges_that_nobody_has_are_refused_before_anything_is_said(world: World) -> None:
    """Ranges that came with a model are checked like those of an opening."""
    with pytest.raises(ProtocolError, match="the server names the ranges"):
        world.hand_in(saying(), exponents=(1, HIGHEST + 1))


@pytest.mark.parametrize(
    ("openings", "words"),
    [
        ([], "the roster shows worker-0; expected worker-0, worker-1, worker-2"),
        ([opening(exponents=[2, 2])], "the roster does not hold what it advertised"),
    ],
)
def test_an_opening_counts_more_than_what_was_expected(
    world: World, openings: list[pb.HostMessage], words: str
) -> None:
    """Keys that were advertised at first are in the session, unless the worker was asked for others since."""

    async def script(server: Server) -> AsyncIterator[pb.HostMessage]:
        for message in openings:
            yield message
            await server.heard.get()
        all_three = {"candidates": [0, 1, 2], "members": [0, 1, 2]}
        yield pb.HostMessage(roster=pb.Roster(**all_three, entries=[server.ready.advertisement]))

    with pytest.raises(ProtocolError, match=words):
        world.hand_in(script, exponents=(1, 1))


def test_a_call_that_ends_while_the_worker_answers_is_over(world: World) -> None:
    """A server that gives an attempt up ends the call well; an answer that comes too late is worth another call."""

    async def script(_: Server) -> AsyncIterator[pb.HostMessage]:
        yield opening()

    codes = []
    for _ in range(10):
        try:
            assert world.hand_in(script).pushed == []
        except grpc.aio.AioRpcError as error:
            codes.append(error.code())
    assert set(codes) <= set(SILENT)


def test_a_refusal_comes_with_its_reason(world: World) -> None:
    """What the server says when it refuses is the error that the call ends with."""

    async def script(server: Server) -> AsyncIterator[pb.HostMessage]:
        yield opening()
        await server.heard.get()
        await server.call.abort(grpc.StatusCode.INVALID_ARGUMENT, "worker-0 advertises for worker-1")

    with pytest.raises(grpc.aio.AioRpcError, match="worker-0 advertises for worker-1"):
        world.hand_in(script)
