"""How fast one gRPC stream carries raw bytes between two processes, with and without mutual TLS."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, TypeAlias

import grpc

from bench.cases import MEBIBYTE
from bench.certificates import Identity, identities

if TYPE_CHECKING:  # generic in the stubs only
    Call: TypeAlias = grpc.aio.StreamUnaryMultiCallable[bytes, bytes]
    Handler: TypeAlias = grpc.RpcMethodHandler[bytes, bytes]

REPEATS = 3
METHOD = "/bench.Stream/Drain"
OPTIONS = [("grpc.max_receive_message_length", 2 * MEBIBYTE)]


def measure(messages: int, *, tls: bool) -> float:
    """Send messages of 1 MiB and divide by the time until the server has counted them; best of a few."""
    server, client = identities() if tls else (None, None)
    with _server(server) as port:
        seconds = asyncio.run(_send(port, messages, client))
    return messages * MEBIBYTE / seconds / 1e9


async def _send(port: int, messages: int, identity: Identity | None) -> float:
    async with _channel(port, identity) as channel:
        await channel.channel_ready()
        call: Call = channel.stream_unary(METHOD)  # without serializers the bytes travel as they are
        return min([await _stream(call, messages) for _ in range(REPEATS)])


async def _stream(call: "Call", messages: int) -> float:
    start = time.perf_counter()
    counted = await call(_pieces(messages))
    assert int(counted) == messages * MEBIBYTE
    return time.perf_counter() - start


async def _pieces(messages: int) -> AsyncIterator[bytes]:
    piece = bytes(MEBIBYTE)
    for _ in range(messages):
        yield piece


def _channel(port: int, identity: Identity | None) -> grpc.aio.Channel:
    target = f"127.0.0.1:{port}"
    if identity is None:
        return grpc.aio.insecure_channel(target)
    credentials = grpc.ssl_channel_credentials(identity.authority, identity.key, identity.certificate)
    return grpc.aio.secure_channel(target, credentials)


@contextmanager
def _server(identity: Identity | None) -> Iterator[int]:
    """Run the receiving process and yield its port."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, identity), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection, identity: Identity | None) -> None:
    asyncio.run(_serve_forever(pipe, identity))


async def _serve_forever(pipe: Connection, identity: Identity | None) -> None:
    server = grpc.aio.server(options=OPTIONS)
    handler: Handler = grpc.stream_unary_rpc_method_handler(_drain)
    handlers = {"Drain": handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Stream", handlers),))
    pipe.send(_listen(server, identity))
    await server.start()
    await server.wait_for_termination()


def _listen(server: grpc.aio.Server, identity: Identity | None) -> int:
    if identity is None:
        return server.add_insecure_port("127.0.0.1:0")
    pair = (identity.key, identity.certificate)
    credentials = grpc.ssl_server_credentials([pair], identity.authority, require_client_auth=True)
    return server.add_secure_port("127.0.0.1:0", credentials)


async def _drain(pieces: AsyncIterator[bytes], context: object) -> bytes:
    del context
    received = 0
    async for piece in pieces:
        received += len(piece)
    return str(received).encode()
