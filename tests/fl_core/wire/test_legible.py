"""Whatever bytes come, the caller hears that they are no message, and the log has one line of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from fl_core.wire import fl_pb2 as pb
from fl_core.wire.guard import Call
from fl_core.wire.legible import Legible

KINDS = [f"{asked}_{answered}" for asked in ("unary", "stream") for answered in ("unary", "stream")]
GARBAGE = b"\xff\xff"


async def one(asked: Any, _: Call) -> pb.Ack:
    if not isinstance(asked, pb.Ack):
        async for _ in asked:
            pass
    return pb.Ack()


async def many(asked: Any, call: Call) -> AsyncIterator[pb.Ack]:
    yield await one(asked, call)


async def said(kind: str, content: bytes) -> grpc.StatusCode:
    """How a server answers a call of this kind with this content."""
    asked, answered = kind.split("_")
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    handler = make(
        many if answered == "stream" else one,
        request_deserializer=pb.Ack.FromString,
        response_serializer=pb.Ack.SerializeToString,
    )
    server = grpc.aio.server(interceptors=(Legible(),))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("toy", {"Call": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = getattr(channel, kind)("/toy/Call")(iter([content]) if asked == "stream" else content)
        try:
            _ = [answer async for answer in call] if answered == "stream" else await call
        except grpc.aio.AioRpcError as error:
            return error.code()
        finally:
            await server.stop(None)
    return grpc.StatusCode.OK


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_that_are_no_message_are_refused_in_one_line(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """INVALID_ARGUMENT and one warning of our own; gRPC itself logs no traceback."""
    with capture_logs() as logs, caplog.at_level(logging.DEBUG, "grpc"):
        assert asyncio.run(said(kind, GARBAGE)) == grpc.StatusCode.INVALID_ARGUMENT
    assert [one["reason"] for one in logs] == ["somebody sent bytes that are no message"]
    errors = [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert not [one for one in errors if one.name.startswith("grpc")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_is_answered_as_ever(kind: str) -> None:
    """What can be read comes to its method, whose answers go back."""
    assert asyncio.run(said(kind, pb.Ack().SerializeToString())) == grpc.StatusCode.OK
