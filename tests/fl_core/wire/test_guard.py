"""No service listens to a message before it knows who speaks, of which job and plan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from fl_core.errors import (
    FLJobError,
    MismatchError,
    RoundError,
    ShortfallError,
    StorageError,
    UnavailableError,
    UpdateError,
)
from fl_core.identity import Authority, Credentials, Identity
from fl_core.plan import Plan
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import fl_pb2_grpc
from fl_core.wire.channels import OPTIONS, open_port
from fl_core.wire.guard import admit, context_of, refuse

Build = Callable[..., Plan]
Status = grpc.StatusCode


@dataclass
class Guarded(fl_pb2_grpc.SchedulerServicer):
    """A service whose one method is for the server, and that notes whom it has listened to."""

    plan: Plan
    listened: list[str]
    error: FLJobError | None = None

    async def Dismiss(self, request: pb.Dismissal, call: Any) -> pb.Ack:  # noqa: N802
        who = await admit(call, request, plan=self.plan, roles=("server",))
        self.listened.append(who.name)
        if self.error is not None:
            await refuse(call, self.error)
        return pb.Ack()


@dataclass
class Scene:
    """A guarded service on loopback, and the authority that issues its callers' certificates."""

    service: Guarded
    address: str
    authority: Authority
    folder: Path

    async def says(self, role: str, message: pb.Dismissal, *, job: str = "job-1") -> tuple[Status, str]:
        """What a process of this role is answered; the authority signs whatever job it claims."""
        folder = self.folder / f"{job}-{role}"
        self.authority.issue(Identity(job, role, 1 if role == "worker" else None)).write(folder)
        own, scheduler = Credentials.read(folder), Identity("job-1", "scheduler")
        credentials = grpc.ssl_channel_credentials(own.authority, own.key, own.certificate)
        options = (*OPTIONS, ("grpc.ssl_target_name_override", scheduler.host))
        async with grpc.aio.secure_channel(self.address, credentials, options=options) as channel:
            try:
                await fl_pb2_grpc.SchedulerStub(channel).Dismiss(message, timeout=30, wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                return error.code(), error.details() or ""
            return Status.OK, ""


@asynccontextmanager
async def guarded(plan: Plan, folder: Path) -> AsyncIterator[Scene]:
    authority, server = Authority("job-1"), grpc.aio.server(options=OPTIONS)
    authority.issue(Identity("job-1", "scheduler")).write(folder / "own")
    service = Guarded(plan, [])
    fl_pb2_grpc.add_SchedulerServicer_to_server(service, server)
    address = await open_port(server, "127.0.0.1:0", folder / "own")
    await server.start()
    try:
        yield Scene(service, address, authority, folder)
    finally:
        await server.stop(None)


def spoilt(plan: Plan, kind: str) -> pb.Dismissal:
    context = context_of(plan)
    if kind == "another job":
        context.job = "job-2"
    elif kind == "another plan":
        context.plan = context.plan[::-1]
    elif kind == "no context":
        return pb.Dismissal(reason="done")
    message = pb.Dismissal(context=context, reason="done")
    if kind == "unknown field":
        message.MergeFromString(b"\xf8\x07\x01")
    elif kind == "unknown field inside":
        message.context.MergeFromString(b"\xf8\x07\x01")
    return message


CASES = {
    ("worker", "job-1", "honest"): (Status.PERMISSION_DENIED, "worker/1 may not make this call; it is for server"),
    ("observer", "job-1", "honest"): (Status.PERMISSION_DENIED, "it is for server of job job-1"),
    ("server", "job-2", "honest"): (Status.PERMISSION_DENIED, "job/job-2/server may not make this call"),
    ("janitor", "job-1", "honest"): (Status.PERMISSION_DENIED, "names no process of an FLJob"),
    ("server", "job-1", "another job"): (Status.FAILED_PRECONDITION, "server speaks of job 'job-2'"),
    ("server", "job-1", "another plan"): (Status.FAILED_PRECONDITION, "this is job 'job-1' with plan"),
    ("server", "job-1", "no context"): (Status.FAILED_PRECONDITION, "server speaks of job ''"),
    ("server", "job-1", "unknown field"): (Status.INVALID_ARGUMENT, "fields that Dismissal does not have"),
    ("server", "job-1", "unknown field inside"): (Status.INVALID_ARGUMENT, "fields that Context does not have"),
    ("worker", "job-1", "another job"): (Status.PERMISSION_DENIED, "may not make this call"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids="/".join)
def test_who_may_not_speak_is_not_listened_to(
    tmp_path: Path, plan: Build, case: tuple[str, str, str]
) -> None:
    """A wrong role, job, plan or message ends with a status that says why; the honest caller is still served."""
    role, job, kind = case

    async def scene() -> None:
        async with guarded(plan(), tmp_path) as there:
            status, details = await there.says(role, spoilt(plan(), kind), job=job)
            assert status == CASES[case][0]
            assert CASES[case][1] in details
            assert there.service.listened == []
            assert await there.says("server", spoilt(plan(), "honest")) == (Status.OK, "")
            assert there.service.listened == ["server"]

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MismatchError("other arrays"), Status.FAILED_PRECONDITION),
        (ShortfallError("too few"), Status.FAILED_PRECONDITION),
        (UpdateError("too large"), Status.INVALID_ARGUMENT),
        (RoundError("spoilt"), Status.INVALID_ARGUMENT),
        (StorageError("disk full"), Status.UNAVAILABLE),
        (UnavailableError("silent"), Status.UNAVAILABLE),
    ],
    ids=lambda value: getattr(value, "name", type(value).__name__),
)
def test_an_error_is_the_status_of_its_branch(
    tmp_path: Path, plan: Build, error: FLJobError, status: Status
) -> None:
    """The caller learns from the status whether to mend, to give up the round or to wait, and gets the sentence."""

    async def scene() -> None:
        async with guarded(plan(), tmp_path) as there:
            there.service.error = error
            assert await there.says("server", spoilt(plan(), "honest")) == (status, str(error))

    asyncio.run(scene())


def test_half_a_character_in_a_sentence_is_written_out(tmp_path: Path, plan: Build) -> None:
    """A peer's JSON may hold what no status can: the caller is refused all the same, and reads where it stood."""

    async def scene() -> None:
        async with guarded(plan(), tmp_path) as there:
            there.service.error = UpdateError("no option 'k\ud800'")
            told = await there.says("server", spoilt(plan(), "honest"))
            assert told == (Status.INVALID_ARGUMENT, "no option 'k\\ud800'")

    asyncio.run(scene())


def test_a_context_names_job_plan_round_and_attempt(plan: Build) -> None:
    """What every message carries."""
    made = plan()
    context = context_of(made, round=3, attempt=2)
    assert context == pb.Context(job="job-1", plan=made.digest, round=3, attempt=2)
