"""Only processes of the same job get through, in both directions, and strangers harm nobody."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from fl_core import identity
from fl_core.errors import MismatchError, UnavailableError
from fl_core.identity import Authority, Credentials, Identity
from fl_core.wire.channels import MESSAGE_LIMIT, OPTIONS, caller, open_channel, open_port

Keys = Callable[..., Path]


async def who(_: bytes, call: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    try:
        return caller(call).uri.encode()
    except MismatchError as error:
        return str(error).encode()


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[str]:
    """A server that answers each caller with its name, with these credentials."""
    server = grpc.aio.server(options=OPTIONS)
    handler = grpc.unary_unary_rpc_method_handler(who)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("who", {"Calls": handler}),))
    address = await open_port(server, "127.0.0.1:0", folder)
    await server.start()
    try:
        yield address
    finally:
        await server.stop(None)


async def ask(channel: grpc.aio.Channel, message: bytes = b"") -> str:
    async with channel:
        answer: bytes = await channel.unary_unary("/who/Calls")(message, timeout=10)
    return answer.decode()


def run(test: Awaitable[None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(limited())


def test_a_caller_is_known_by_its_certificate(keys: Keys) -> None:
    """The server reads from the handshake who calls; nothing in the message matters."""

    async def scene() -> None:
        async with served(keys("server")) as address:
            for role, index in (("worker", 3), ("scheduler", None), ("observer", None)):
                channel = open_channel(address, keys(role, index), peer="server")
                assert await ask(channel, b"I am the server") == Identity("job-1", role, index).uri

    run(scene())


def channel_of(address: str, credentials: grpc.ChannelCredentials) -> grpc.aio.Channel:
    name = Identity("job-1", "server").host
    options = (*OPTIONS, ("grpc.ssl_target_name_override", name))
    return grpc.aio.secure_channel(address, credentials, options=options)


def stranger(kind: str, address: str, keys: Keys) -> grpc.aio.Channel:
    """A client that is not of this job, in one of several ways."""
    own = Credentials.read(keys("worker", 1))
    foreign = Credentials.read(keys("worker", 1, job="job-2"))
    if kind == "plain text":
        return grpc.aio.insecure_channel(address)
    if kind == "no certificate":
        return channel_of(address, grpc.ssl_channel_credentials(own.authority))
    if kind == "another job's authority on both sides":
        return open_channel(address, keys("worker", 1, job="job-2"), peer="server")
    return channel_of(address, grpc.ssl_channel_credentials(own.authority, foreign.key, foreign.certificate))


@pytest.mark.parametrize(
    "kind",
    ["plain text", "no certificate", "another job's certificate", "another job's authority on both sides"],
)
def test_strangers_do_not_get_through(keys: Keys, kind: str) -> None:
    """Without a certificate of this job there is no answer, and the honest caller is served before and after."""

    async def scene() -> None:
        async with served(keys("server")) as address:
            honest = keys("worker", 1)
            assert await ask(open_channel(address, honest, peer="server"))
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await ask(stranger(kind, address, keys))
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
            assert await ask(open_channel(address, honest, peer="server"))

    run(scene())


def test_an_expired_certificate_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate whose time is over opens nothing, though its job's authority has signed it."""
    authority = Authority("job-1")
    for name in ("server", "observer"):
        authority.issue(Identity("job-1", name)).write(tmp_path / name)
    monkeypatch.setattr(identity, "LIFETIME", -dt.timedelta(seconds=1))
    authority.issue(Identity("job-1", "worker", 1)).write(tmp_path / "worker")

    async def scene() -> None:
        async with served(tmp_path / "server") as address:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await ask(open_channel(address, tmp_path / "worker", peer="server"))
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
            assert await ask(open_channel(address, tmp_path / "observer", peer="server"))

    run(scene())


@pytest.mark.parametrize(("role", "index"), [("scheduler", None), ("worker", 1), ("observer", None)])
def test_a_server_of_another_role_is_not_spoken_to(keys: Keys, role: str, index: int | None) -> None:
    """Whoever dials the server does not speak to another process of the job that took its port."""

    async def scene() -> None:
        async with served(keys(role, index)) as address:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await ask(open_channel(address, keys("worker", 2), peer="server"))
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
            assert await ask(open_channel(address, keys("worker", 2), peer=role))

    run(scene())


def test_a_server_of_another_job_is_not_spoken_to(keys: Keys) -> None:
    """A worker refuses a server that its own job's authority has not signed."""

    async def scene() -> None:
        async with served(keys("server", job="job-2")) as address:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await ask(open_channel(address, keys("worker", 2), peer="server"))
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE

    run(scene())


def test_one_authority_of_many_jobs_keeps_them_apart(tmp_path: Path) -> None:
    """On a cluster one authority signs for all jobs: a worker does not speak to another job's server."""
    authority = Authority("cluster")
    for job in ("job-1", "job-2"):
        authority.issue(Identity(job, "server")).write(tmp_path / job)
    authority.issue(Identity("job-1", "worker", 1)).write(tmp_path / "worker")

    async def scene() -> None:
        for job, opens in (("job-1", True), ("job-2", False)):
            async with served(tmp_path / job) as address:
                asked = ask(open_channel(address, tmp_path / "worker", peer="server"))
                if opens:
                    assert await asked
                    continue
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await asked
                assert refused.value.code() == grpc.StatusCode.UNAVAILABLE

    run(scene())


def test_a_certificate_without_a_name_of_ours_is_nobody(tmp_path: Path) -> None:
    """A certificate of the job's authority that names no process gets no identity."""
    authority = Authority("job-1")
    authority.issue(Identity("job-1", "server")).write(tmp_path / "server")
    authority.issue(Identity("job-1", "janitor")).write(tmp_path / "janitor")

    async def scene() -> None:
        async with served(tmp_path / "server") as address:
            own = Credentials.read(tmp_path / "janitor")
            credentials = grpc.ssl_channel_credentials(own.authority, own.key, own.certificate)
            said = await ask(channel_of(address, credentials))
            assert said == "'spiffe://fljob.dev/job/job-1/janitor' names no process of an FLJob"

    run(scene())


def test_no_message_exceeds_the_limit(keys: Keys) -> None:
    """A message beyond the limit is refused, one just below it is not, and the next caller is served."""

    async def scene() -> None:
        async with served(keys("server")) as address:
            worker = keys("worker", 1)
            assert await ask(open_channel(address, worker, peer="server"), bytes(MESSAGE_LIMIT))
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await ask(open_channel(address, worker, peer="server"), bytes(MESSAGE_LIMIT + 1))
            assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert await ask(open_channel(address, worker, peer="server"))

    run(scene())


def test_noise_on_the_port_harms_nobody(keys: Keys) -> None:
    """Bytes that are no TLS at all, and connections that say nothing, leave the server serving."""

    async def scene() -> None:
        async with served(keys("server")) as address:
            host, _, port = address.rpartition(":")
            with (
                socket.create_connection((host, int(port))) as noise,
                socket.create_connection((host, int(port))),
            ):
                noise.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(1000))
                assert await ask(open_channel(address, keys("worker", 1), peer="server"))

    run(scene())


def test_a_port_that_is_taken_is_told(keys: Keys) -> None:
    """Two servers do not share a port."""

    async def scene() -> None:
        async with served(keys("server")) as address:
            with pytest.raises(UnavailableError, match="nobody can listen at 127.0.0.1:"):
                await open_port(grpc.aio.server(options=OPTIONS), address, keys("server"))

    run(scene())


def test_no_certificate_opens_nothing(tmp_path: Path) -> None:
    """Who has no credentials of its own neither dials nor listens."""
    with pytest.raises(MismatchError, match="ca.pem cannot be read"):
        open_channel("127.0.0.1:1", tmp_path, peer="server")
