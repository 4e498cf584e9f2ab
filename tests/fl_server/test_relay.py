"""What a site sends goes to whom its TLS hello asks for, unread and whole, and strangers harm nobody."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from fl_core.errors import ShortfallError, UnavailableError
from fl_core.identity import Authority, Identity
from fl_core.wire.channels import OPTIONS, caller, open_channel, open_port
from fl_server import relay as relaying
from fl_server.metrics import Metrics
from fl_server.relay import ENROL_SECONDS, Hellos, Relay, Route, routes

JOB = "Job-1"
SERVER = Identity(JOB, "server").host
Echo = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Sides = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def run(scene: Awaitable[None]) -> None:
    """Play a scene, in which nothing goes wrong that nobody sees."""
    unseen: list[object] = []

    async def limited() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: unseen.append(what))
        async with asyncio.timeout(60):
            await scene
        gc.collect()

    asyncio.run(limited())
    assert unseen == []


@pytest.fixture(autouse=True)
def _no_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who are left when a scene ends are not waited for."""
    monkeypatch.setattr(relaying, "END_SECONDS", 0.1)


def hello(name: str | None) -> bytes:
    """The first message of a TLS client that asks for this name."""
    context = ssl.create_default_context()
    context.check_hostname = False
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Give back what comes, to its end."""
    while piece := await reader.read(1 << 16):
        writer.write(piece)
        await writer.drain()
    writer.close()


@dataclass
class Place:
    """A relay with one upstream, and its metrics."""

    metrics: Metrics = field(default_factory=Metrics)
    address: str = ""

    async def dial(self) -> Sides:
        host, _, port = self.address.rpartition(":")
        return await asyncio.open_connection(host, int(port))

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def refused(self, reason: str) -> float:
        return self.counted("fl_external_refused_total", reason=reason)

    @property
    def open(self) -> float:
        return self.counted("fl_external_connections")


@asynccontextmanager
async def relayed(upstream: Echo = echo, *, seconds: float | None = None) -> AsyncIterator[Place]:
    """A relay in front of this upstream, which is called SERVER."""
    place = Place()
    async with await asyncio.start_server(upstream, "127.0.0.1", 0) as behind:
        route = Route(f"127.0.0.1:{behind.sockets[0].getsockname()[1]}", seconds)
        async with Relay({SERVER: route}, place.metrics).listening("127.0.0.1:0") as address:
            place.address = address
            yield place


async def nothing(reader: asyncio.StreamReader) -> None:
    """Wait for the end, before which nothing comes."""
    with suppress(ConnectionError):
        assert await reader.read(-1) == b""


async def none_open(place: Place) -> None:
    while place.open:
        await asyncio.sleep(0.01)


# -- gRPC, end to end


async def who(_: bytes, call: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    return caller(call).uri.encode()


@asynccontextmanager
async def process(authority: Authority, role: str, folder: Path) -> AsyncIterator[str]:
    """A process of this role that answers callers with their names; gives its address."""
    authority.issue(Identity(JOB, role), addresses=()).write(folder / role)
    server = grpc.aio.server(options=OPTIONS)
    handler = grpc.unary_unary_rpc_method_handler(who)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(role, {"Who": handler}),))
    address = await open_port(server, "127.0.0.1:0", folder / role)
    await server.start()
    try:
        yield address
    finally:
        await server.stop(None)


def test_a_site_reaches_server_and_scheduler_through_one_port(tmp_path: Path) -> None:
    """A site asks for the process by its name, and mutual TLS is between the site and that process."""
    authority = Authority("cluster")
    authority.issue(Identity(JOB, "worker", 2), addresses=()).write(tmp_path / "site")

    async def scene() -> None:
        async with (
            process(authority, "server", tmp_path) as server,
            process(authority, "scheduler", tmp_path) as scheduler,
            Relay(
                routes(JOB, server=server, scheduler=scheduler, enrol=None), metrics := Metrics()
            ).listening("127.0.0.1:0") as address,
        ):
            for role in ("server", "scheduler"):
                async with open_channel(address, tmp_path / "site", peer=role) as channel:
                    said = await channel.unary_unary(f"/{role}/Who")(b"", timeout=20)
                    assert said == Identity(JOB, "worker", 2).uri.encode()
                    assert metrics.registry.get_sample_value("fl_external_connections")

    run(scene())


def test_another_jobs_site_gets_nowhere(tmp_path: Path) -> None:
    """A site of another job asks for a name that nobody here has; one with a strange authority fails in TLS."""
    authority = Authority("cluster")
    authority.issue(Identity("job-2", "worker", 0), addresses=()).write(tmp_path / "other job")
    Authority("stranger").issue(Identity(JOB, "worker", 0), addresses=()).write(tmp_path / "stranger")

    async def scene() -> None:
        async with process(authority, "server", tmp_path) as server:
            known = routes(JOB, server=server, scheduler=server, enrol=None)
            async with Relay(known, metrics := Metrics()).listening("127.0.0.1:0") as address:
                for folder in ("other job", "stranger"):
                    async with open_channel(address, tmp_path / folder, peer="server") as channel:
                        with pytest.raises(grpc.aio.AioRpcError) as refused:
                            await channel.unary_unary("/server/Who")(b"", timeout=20)
                        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
                counted = metrics.registry.get_sample_value("fl_external_refused_total", {"reason": "name"})
                assert counted
                assert counted >= 1

    run(scene())


def test_the_names_of_a_job() -> None:
    """Three names lead somewhere; an enrolment, for which nobody needs a certificate, has its time."""
    known = routes("U1", server="s:1", scheduler="c:2", enrol="https://operator.fljob.svc:8443")
    assert known == {
        "server.u1.fljob.dev": Route("s:1"),
        "scheduler.u1.fljob.dev": Route("c:2"),
        "operator.fljob.svc": Route("operator.fljob.svc:8443", ENROL_SECONDS),
    }
    assert len(routes("U1", server="s:1", scheduler="c:2", enrol=None)) == 2


# -- bytes


def test_bytes_are_passed_on_whole() -> None:
    """The upstream gets the hello and all that follows, and its answer comes back, to the byte."""

    async def scene() -> None:
        async with relayed() as place:
            reader, writer = await place.dial()
            said = hello(SERVER) + random.Random(1).randbytes(3 << 20)
            writer.write(said)
            writer.write_eof()
            assert await reader.read(-1) == said
            writer.close()
            await none_open(place)

    run(scene())


def test_a_hello_may_come_byte_by_byte() -> None:
    """The name is read as soon as the hello is whole, however it was cut."""

    async def scene() -> None:
        async with relayed() as place:
            reader, writer = await place.dial()
            for byte in hello(SERVER):
                writer.write(bytes([byte]))
                await writer.drain()
            assert await reader.readexactly(len(hello(SERVER)))
            writer.close()

    run(scene())


def test_a_half_closed_side_may_still_be_answered() -> None:
    """One side may end while the other goes on; when both have ended the connection counts no more."""

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = await reader.read(-1)
        await asyncio.sleep(0.05)
        writer.write(b"%d bytes" % len(said))
        writer.close()

    async def scene() -> None:
        async with relayed(late) as place:
            reader, writer = await place.dial()
            writer.write(hello(SERVER))
            writer.write_eof()
            assert await reader.read(-1) == b"%d bytes" % len(hello(SERVER))
            writer.close()
            await none_open(place)

    run(scene())


def test_a_slow_reader_slows_the_sender() -> None:
    """What nobody takes is not kept: the relay stops reading, and so does TCP before it."""
    sent = 0

    over = asyncio.Event()

    async def stuck(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    async def send(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while True:
            writer.write(bytes(1 << 16))
            await writer.drain()
            sent += 1 << 16

    async def scene() -> None:
        async with relayed(stuck) as place:
            _, writer = await place.dial()
            writer.write(hello(SERVER))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(send(writer), 1)
            writer.transport.abort()
            over.set()
            await none_open(place)

    run(scene())
    assert sent < 64 << 20


def test_a_broken_connection_is_closed_on_both_sides() -> None:
    """When one side vanishes the other hears of it, and nothing stays open."""
    gone = asyncio.Event()

    async def watching(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read(-1)
        gone.set()
        writer.close()

    async def scene() -> None:
        async with relayed(watching) as place:
            _, writer = await place.dial()
            writer.write(hello(SERVER))
            await writer.drain()
            while not place.open:
                await asyncio.sleep(0.01)
            writer.transport.abort()
            await gone.wait()
            await none_open(place)

    run(scene())


def test_a_connection_may_be_reset_at_any_time() -> None:
    """A reset in the hello, or just after it, is the end of that connection and of nothing else."""

    async def scene() -> None:
        async with relayed() as place:
            for size in (0, 10, len(hello(SERVER))):
                _, writer = await place.dial()
                writer.write(hello(SERVER)[:size])
                await writer.drain()
                channel = writer.get_extra_info("socket")
                channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            await none_open(place)
            reader, writer = await place.dial()
            writer.write(hello(SERVER))
            assert await reader.readexactly(5)

    run(scene())


def test_a_route_with_a_time_ends_with_it() -> None:
    """A stranger who holds an enrolment open is let go."""

    async def scene() -> None:
        async with relayed(seconds=0.1) as place:
            reader, writer = await place.dial()
            writer.write(hello(SERVER))
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1 << 20)
            await none_open(place)

    run(scene())


# -- strangers


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: server\r\n\r\n", "hello"),
        (b"", "hello"),
        (hello(SERVER)[:40], "hello"),
        (b"\x16\x03\x01\x40\x00" + bytes(1 << 14), "hello"),
        (b"\x16\x03\x01\x3f\xff\x01\x00\xff\xff" + bytes(1 << 14), "hello"),
        (hello("elsewhere.fljob.dev"), "name"),
        (hello(f"x{SERVER}"), "name"),
        (hello(None), "name"),
        (hello("127.0.0.1"), "name"),
    ],
    ids=["http", "nothing", "half", "zeros", "too long", "unknown", "nearly", "no name", "address"],
)
def test_a_stranger_is_turned_away(said: bytes, reason: str) -> None:
    """Whatever is no hello, or asks for nobody here, is closed and counted, and reaches no process."""

    async def scene() -> None:
        reached: list[bytes] = []

        async def nobody(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            reached.append(await reader.read(1))
            writer.close()

        async with relayed(nobody) as place:
            reader, writer = await place.dial()
            writer.write(said)
            writer.write_eof()
            await nothing(reader)
            await none_open(place)
            assert place.refused(reason) == 1
            assert reached == []

    run(scene())


def test_a_hello_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who says nothing, or too slowly, is turned away; those who are in are served on."""

    async def scene() -> None:
        async with relayed() as place:
            reader, writer = await place.dial()
            writer.write(hello(SERVER))
            assert await reader.readexactly(len(hello(SERVER)))
            monkeypatch.setattr(relaying, "HELLO_SECONDS", 0.1)
            slow, writer_of_slow = await place.dial()
            writer_of_slow.write(hello(SERVER)[:10])
            await nothing(slow)
            assert place.refused("hello") == 1
            assert place.open == 1
            writer.write(b"more")
            assert await reader.readexactly(4)
            writer.close()
            await none_open(place)

    run(scene())


def test_a_flood_leaves_those_who_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound nobody is taken, those within it are served on, and a place that is free is given again."""
    monkeypatch.setattr(relaying, "MOST_CONNECTIONS", 3)

    async def scene() -> None:
        async with relayed() as place:
            within = [await place.dial() for _ in range(3)]
            while place.open < 3:
                await asyncio.sleep(0.01)
            for _ in range(20):
                reader, writer = await place.dial()
                await nothing(reader)
            assert place.refused("busy") == 20
            for reader, writer in within:
                writer.write(hello(SERVER))
                assert await reader.readexactly(5)
            within[0][1].transport.abort()
            while place.open == 3:
                await asyncio.sleep(0.01)
            reader, writer = await place.dial()
            writer.write(hello(SERVER))
            assert await reader.readexactly(5)

    run(scene())


def test_an_upstream_that_is_not_there() -> None:
    """A process that does not listen is no error of the relay."""

    async def scene() -> None:
        metrics = Metrics()
        async with Relay({SERVER: Route("127.0.0.1:1")}, metrics).listening("127.0.0.1:0") as address:
            reader, writer = await Place(address=address).dial()
            writer.write(hello(SERVER))
            await nothing(reader)
            sample = {"reason": "upstream"}
            assert metrics.registry.get_sample_value("fl_external_refused_total", sample) == 1

    run(scene())


@pytest.mark.parametrize("error", [None, ShortfallError("too few")])
def test_sites_hear_of_the_end_before_the_relay_goes(
    error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the job is over its connections go on, and new ones are taken, until the sites have left."""
    monkeypatch.setattr(relaying, "END_SECONDS", 30)

    async def leave(place: Place, first: Sides) -> bytes:
        await asyncio.sleep(0.2)
        reader, writer = await place.dial()
        writer.write(hello(SERVER))
        assert await reader.readexactly(5)
        first[1].write(b"stop?")
        said = await first[0].readexactly(5)
        writer.close()
        first[1].close()
        return said

    async def scene() -> None:
        with pytest.raises(ShortfallError) if error else nullcontext():
            async with relayed() as place:
                first = await place.dial()
                first[1].write(hello(SERVER))
                await first[0].readexactly(len(hello(SERVER)))
                leaving = asyncio.create_task(leave(place, first))
                if error:
                    raise error
        assert await leaving == b"stop?"

    run(scene())


def test_the_end_of_the_relay_ends_its_connections() -> None:
    """Whoever has not left in time hears that it is over, and the port is free."""

    async def scene() -> None:
        async with relayed() as place:
            reader, writer = await place.dial()
            writer.write(hello(SERVER))
            assert await reader.readexactly(5)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1 << 20)
        with pytest.raises(ConnectionError):
            await place.dial()

    run(scene())


def test_an_address_that_is_taken_is_told() -> None:
    """A port that somebody has is an error with its address."""

    async def scene() -> None:
        async with relayed() as place:
            with pytest.raises(UnavailableError, match=place.address):
                async with Relay({}, Metrics()).listening(place.address):
                    pass

    run(scene())


def test_names_are_forgotten() -> None:
    """A hello gives its name and all that was read, and nothing of it is kept."""

    async def scene() -> None:
        hellos = Hellos()
        for name in (SERVER, "other.example"):
            reader, said = asyncio.StreamReader(), hello(name) + b"more"
            reader.feed_data(said)
            assert await hellos.read(reader) == (name, said)
        assert not hellos._names

    run(scene())
