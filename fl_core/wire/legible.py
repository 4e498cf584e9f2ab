"""Bytes that are no message: a call that has them ends with INVALID_ARGUMENT and one line in the log.

By itself gRPC answers UNKNOWN, and logs a traceback each time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import wraps
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError

from fl_core.errors import MismatchError
from fl_core.wire.channels import caller
from fl_core.wire.guard import Call

log = structlog.get_logger()

Handler = Any
"""grpc.RpcMethodHandler, which is generic for type checkers only."""


class Legible(grpc.aio.ServerInterceptor):
    """Refuses what cannot be read, in every method of a server."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Have the method's handler read and answer with care; a method that is unknown stays so."""
        handler = await continuation(handler_call_details)
        return None if handler is None else _careful(handler)


def _careful(handler: Handler) -> Handler:
    kinds = (handler.request_streaming, handler.response_streaming)
    inner: Any = {
        (False, False): handler.unary_unary,
        (False, True): handler.unary_stream,
        (True, False): handler.stream_unary,
        (True, True): handler.stream_stream,
    }[kinds]
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[kinds]
    read = handler.request_deserializer
    if not handler.request_streaming and read is not None:
        read = _reading(read)
    answer = _stream(inner) if handler.response_streaming else _unary(inner)
    return make(answer, request_deserializer=read, response_serializer=handler.response_serializer)


def _reading(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Give the error in the place of a message: raised there it would never come to the handler."""

    def careful(content: bytes) -> Any:  # noqa: ANN401 - any message
        try:
            return read(content)
        except DecodeError as error:
            return error

    return careful


def _unary(inner: Any) -> Any:  # noqa: ANN401 - a handler's method
    @wraps(inner)
    async def answer(request: Any, call: Call) -> Any:  # noqa: ANN401 - any message
        try:
            return await inner(_checked(request), call)
        except DecodeError:
            await _refuse(call)

    return answer


def _stream(inner: Any) -> Any:  # noqa: ANN401 - a handler's method
    @wraps(inner)
    async def answers(request: Any, call: Call) -> AsyncIterator[Any]:  # noqa: ANN401 - any message
        try:
            async with aclosing(inner(_checked(request), call)) as told:
                async for one in told:
                    yield one
        except DecodeError:
            await _refuse(call)

    return answers


def _checked(request: Any) -> Any:  # noqa: ANN401 - any message
    if isinstance(request, DecodeError):
        raise request
    return request


async def _refuse(call: Call) -> None:
    try:
        who = caller(call).name
    except MismatchError:
        who = "somebody"
    log.warning("refused", reason=f"{who} sent bytes that are no message")
    await call.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{who} sent bytes that are no message")
