"""The server's gRPC service: it checks who speaks and what comes, and hands it to the coordinator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import grpc
import structlog
from google.protobuf.message import DecodeError

from fl_core.errors import FLJobError, StorageError, UpdateError
from fl_core.plan import Plan
from fl_core.weights import Manifest
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import fl_pb2_grpc
from fl_core.wire.arrays import opened, unchanged
from fl_core.wire.guard import Call, admit, refuse, strange
from fl_server.coordinator import Coordinator
from fl_server.model import Model
from fl_server.opened import Opened
from fl_server.protection import Call as Told
from fl_server.protection import Protection
from fl_server.spool import PATIENCE_SECONDS, Spools
from fl_server.storage import Storage
from fl_server.uploads import Uploads

log = structlog.get_logger()

STEERERS = ("observer",)

UNKNOWN = "it is no message that this server knows"
"""What the record says of one that was refused."""


@dataclass(frozen=True, slots=True)
class Due:
    """An upload: its bytes, and what they mean, or the session for which they are masked."""

    nbytes: int
    manifest: Manifest | None = None
    session: Opened | None = None


class ServerService(fl_pb2_grpc.ServerServicer):
    """Models out; updates, initial weights and measurements in; observations out."""

    def __init__(self, plan: Plan, storage: Storage, coordinator: Coordinator) -> None:
        self.plan = plan
        self._coordinator = coordinator
        patience = min(PATIENCE_SECONDS, plan.selection.stall_seconds / 2)
        self._uploads = Uploads(Spools(storage.spool, patience=patience), wanted=self._is_due)
        self._pushing: dict[str, asyncio.Timeout] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register; `Pull` sends frames that were serialised once for all workers, `Push` reads raw ones."""
        pull = grpc.unary_stream_rpc_method_handler(
            self.Pull, request_deserializer=pb.PullRequest.FromString, response_serializer=unchanged
        )
        push = grpc.stream_unary_rpc_method_handler(
            self.Push, request_deserializer=unchanged, response_serializer=pb.Ack.SerializeToString
        )
        own = grpc.method_handlers_generic_handler("fljob.v1.Server", {"Pull": pull, "Push": push})
        server.add_generic_rpc_handlers((own,))
        fl_pb2_grpc.add_ServerServicer_to_server(self, server)

    async def Pull(self, request: pb.PullRequest, call: Call) -> AsyncIterator[bytes]:  # noqa: N802
        """The model of the open round, from the byte on that the worker has not."""
        await admit(call, request, plan=self.plan, roles=("worker",))
        model = self._coordinator.model
        if model is None or request.model != model.digest:
            await refuse(call, UpdateError(f"the model {request.model[:12]} is not the open round's"))
            return
        try:
            due = model.frames_from(request.offset)
        except UpdateError as error:
            await refuse(call, error)
            return
        for frame in due:
            yield frame
            self._coordinator.sent(len(frame))

    async def Push(self, frames: AsyncIterator[bytes], call: Call) -> pb.Ack:  # noqa: N802
        """An update, or initial weights: spooled, and used only when the last chunk has been verified."""
        head = opened(await anext(aiter(frames), b""))
        who = await admit(call, head, plan=self.plan, roles=("worker",))
        try:
            async with self._only_push(who.name):
                with self._coordinator.refusals.noted(who.name, head.context):
                    fold = await self._receive(who.name, head, frames)
                    if fold is not None:
                        fold.add_done_callback(self._folded)
                        await asyncio.shield(fold)
        except FLJobError as error:
            log.warning("refused", reason=str(error))
            await refuse(call, error)
        return pb.Ack()

    async def Held(self, request: pb.Transfer, call: Call) -> pb.Position:  # noqa: N802
        """Where the worker may go on with an upload whose call was cut, which the server may not have noticed yet."""
        who = await admit(call, request, plan=self.plan, roles=("worker",))
        try:
            async with self._only_push(who.name):
                await self._coordinator.answered(request.context, initial=request.kind == pb.KIND_INITIAL)
                self._due(who.name, request)
                return pb.Position(offset=self._uploads.held(who.name, request))
        except FLJobError as error:
            log.warning("refused", reason=str(error))
            await refuse(call, error)
        return pb.Position()

    async def Recall(self, request: pb.RecallRequest, call: Call) -> pb.Recalled:  # noqa: N802
        """Which of a worker's updates are in the models, as far as the server may go back."""
        who = await admit(call, request, plan=self.plan, roles=("worker",))
        try:
            await self._coordinator.answered(request.context)
            return pb.Recalled(rounds=self._coordinator.recalled(who.name, request.context))
        except FLJobError as error:
            log.warning("refused", reason=str(error))
            await refuse(call, error)
        return pb.Recalled()

    async def Protect(  # noqa: N802
        self, requests: AsyncIterator[pb.MemberMessage], call: Call
    ) -> AsyncIterator[pb.HostMessage]:
        """A worker that holds its result, until it is in a secure sum."""
        first = await anext(aiter(requests), pb.MemberMessage())
        who = await admit(call, first, plan=self.plan, roles=("worker",))
        try:
            await self._coordinator.answered(first.context)
            told = self._coordinator.ready(who.name, first)
        except FLJobError as error:
            log.warning("refused", reason=str(error))
            await refuse(call, error)
            return
        protection = self._protection
        listening = asyncio.create_task(self._listen(who.name, requests, told))
        try:
            while (message := await told.get()) is not None:
                if isinstance(message, FLJobError):
                    await refuse(call, message)
                    return
                yield message
        finally:
            listening.cancel()
            protection.leave(who.name, told)

    async def _listen(self, worker: str, requests: AsyncIterator[pb.MemberMessage], told: Told) -> None:
        try:
            async for message in requests:
                if where := strange(message):
                    sentence = f"{worker} sent fields that {where} does not have"
                    error = UpdateError(sentence, short=UNKNOWN)
                    self._protection.refuse(worker, error)
                else:
                    self._coordinator.heard(worker, message)
        except DecodeError:
            error = UpdateError(f"{worker} sent bytes that are no message", short=UNKNOWN)
            self._protection.refuse(worker, error)
        told.put_nowait(None)

    async def Measure(self, request: pb.MeasureRequest, call: Call) -> pb.Ack:  # noqa: N802
        """A worker's measurements of the new model."""
        who = await admit(call, request, plan=self.plan, roles=("worker",))
        try:
            with self._coordinator.refusals.noted(who.name, request.context):
                self._coordinator.measured(who.name, request)
        except FLJobError as error:
            log.warning("refused", reason=str(error))
            await refuse(call, error)
        return pb.Ack()

    async def Observe(self, request: pb.ObserveRequest, call: Call) -> AsyncIterator[pb.Observation]:  # noqa: N802
        """What happens, as it happens."""
        await admit(call, request, plan=self.plan, roles=STEERERS)
        async for observation in self._coordinator.board.watch():
            yield observation

    async def Steer(self, request: pb.SteerRequest, call: Call) -> pb.Ack:  # noqa: N802
        """The wish to end the job, with the open round or a later one."""
        await admit(call, request, plan=self.plan, roles=STEERERS)
        if request.WhichOneof("wish") != "finish":
            await refuse(call, UpdateError("a wish is to finish; this one is none"))
        self._coordinator.finish(last=request.finish.round)
        return pb.Ack()

    @asynccontextmanager
    async def _only_push(self, worker: str) -> AsyncIterator[None]:
        """One transfer of a worker at a time: a newer one ends the older, whose connection may be dead."""
        if (older := self._pushing.get(worker)) is not None:
            older.reschedule(asyncio.get_running_loop().time())
        own = self._pushing[worker] = asyncio.timeout(None)
        try:
            async with own, self._turns.setdefault(worker, asyncio.Lock()):
                yield
        except TimeoutError as error:
            raise UpdateError(f"{worker} has begun another transfer") from error
        finally:
            if self._pushing.get(worker) is own:
                del self._pushing[worker]

    async def _receive(
        self, worker: str, head: pb.Transfer, frames: AsyncIterator[bytes]
    ) -> asyncio.Future[None] | None:
        """Take an upload, or the rest of one, and hand it over; gives what folds it into the sum."""
        await self._coordinator.answered(head.context, initial=head.kind == pb.KIND_INITIAL)
        due = self._due(worker, head)
        moved = partial(self._coordinator.moved, worker)
        async with self._uploads.call(worker, head, nbytes=due.nbytes, waited=moved) as upload:
            receiver = upload.receiver(nbytes=due.nbytes, manifest=due.manifest)
            await upload.receive(receiver, frames, moved=moved)
            if due.session is not None:
                return self._coordinator.take_masked(worker, spool=upload.spool, begun=due.session)
            if head.kind == pb.KIND_UPDATE:
                return self._coordinator.take(worker, head, spool=upload.spool, largest=upload.largest)
            try:
                buffer = b"".join(data for _, data in upload.spool.chunks())
            except StorageError as error:  # to bring it again would not help
                self._coordinator.failed(error)
                raise
            self._coordinator.first.take(Model(Manifest.from_json(head.manifest), buffer))
        upload.spool.close()
        return None

    def _folded(self, fold: asyncio.Future[None]) -> None:
        """What was taken and cannot be read back is no fault of its sender, nor of this attempt: the server ends."""
        if not fold.cancelled() and isinstance(error := fold.exception(), StorageError):
            self._coordinator.failed(error)

    def _due(self, worker: str, head: pb.Transfer) -> Due:
        """The upload that is due from this worker; refuses one that is not."""
        if head.kind == pb.KIND_MASKED:
            session = self._protection.expects(worker, head.context)
            return Due(session.layout.nbytes, session=session)
        manifest = self._coordinator.expects(head, worker) or Manifest.from_json(head.manifest)
        return Due(manifest.nbytes, manifest)

    def _is_due(self, worker: str, head: pb.Transfer) -> bool:
        try:
            self._due(worker, head)
        except FLJobError:
            return False
        return True

    @property
    def _protection(self) -> Protection:
        return self._coordinator.secure.protection
