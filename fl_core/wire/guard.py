"""What every service checks before it listens to a message: who speaks, and of which job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import grpc
import structlog
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from fl_core.errors import FencedError, FLJobError, JobError, MismatchError, RoundError
from fl_core.identity import Identity
from fl_core.plan import Plan
from fl_core.wire import fl_pb2 as pb
from fl_core.wire.channels import caller

Call = grpc.aio.ServicerContext[Any, Any]

FENCED = grpc.StatusCode.ABORTED
"""A newer process has taken the caller's place."""


class Spoken(Protocol):
    """A message that says of which job and plan it is."""

    @property
    def context(self) -> pb.Context:
        """Its context."""
        ...


async def admit(call: Call, message: Spoken, *, plan: Plan, roles: tuple[str, ...]) -> Identity:
    """The caller, if its certificate, job, plan and message are right; else the call ends with a status."""
    context = message.context
    try:
        who = caller(call)
    except MismatchError as error:
        await call.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
    if who.job != plan.job.uid or who.role not in roles or (who.index or 0) >= plan.workers:
        await call.abort(
            grpc.StatusCode.PERMISSION_DENIED,
            f"{who.uri} may not make this call; it is for {' or '.join(roles)} of job {plan.job.uid}, "
            f"which has {plan.workers} workers",
        )
    structlog.contextvars.bind_contextvars(**_about(who, context))
    if context.job != plan.job.uid or context.plan != plan.digest:
        await call.abort(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"{who.name} speaks of job {context.job!r} with plan {context.plan[:12]!r}; "
            f"this is job {plan.job.uid!r} with plan {plan.digest[:12]!r}",
        )
    if isinstance(message, Message) and (where := strange(message)):
        await call.abort(
            grpc.StatusCode.INVALID_ARGUMENT, f"{who.name} sent fields that {where} does not have"
        )
    return who


def _about(who: Identity, context: pb.Context) -> dict[str, str | int]:
    """What the call's log lines say: which worker speaks, and of which round."""
    about: dict[str, str | int] = {"worker": who.name} if who.role == "worker" else {}
    return {**about, "round": context.round, "attempt": context.attempt} if context.round else about


def strange(message: Message) -> str:
    """The name of the first message in this one that holds unknown fields."""
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    return _strange(message) if known.ByteSize() != message.ByteSize() else ""


def _strange(message: Message) -> str:
    """The name, found by looking at each message in turn, which is several times as slow."""
    if len(UnknownFieldSet(message)):
        return message.DESCRIPTOR.name
    values = [value for field, value in message.ListFields() if field.message_type]
    lists = [value if isinstance(value, Sequence) else [value] for value in values]
    inner = [one for some in lists for one in some if isinstance(one, Message)]
    return next(filter(None, map(_strange, inner)), "")


async def refuse(call: Call, error: FLJobError) -> None:
    """End a call with the status that belongs to an error's branch."""
    if isinstance(error, JobError):
        status = grpc.StatusCode.FAILED_PRECONDITION
    elif isinstance(error, RoundError):
        status = grpc.StatusCode.INVALID_ARGUMENT
    elif isinstance(error, FencedError):
        status = FENCED
    else:
        status = grpc.StatusCode.UNAVAILABLE
    await call.abort(status, sendable(str(error)))


def sendable(text: str) -> str:
    """The text as a message can carry it: half a character, which another's JSON may hold, is written out."""
    return text.encode(errors="backslashreplace").decode()


def context_of(plan: Plan, *, round: int = 0, attempt: int = 0) -> pb.Context:
    """The context that every message of this job carries."""
    return pb.Context(job=plan.job.uid, plan=plan.digest, round=round, attempt=attempt)
