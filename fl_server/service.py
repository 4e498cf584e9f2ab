"""The server's gRPC service: it checks who speaks and what comes, and hands it to the coordinator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import grpc
import structlog
from google.protobuf.message import DecodeError

from fl_core.errors import FLJobError, UpdateError
from fl_core.identity import Identity
from fl_core.plan import Plan
from fl_core.updates import magnitude
from fl_core.weights import Manifest
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import fl_pb2_grpc
from fl_core.wire.arrays import Receiver, opened, unchanged
from fl_core.wire.guard import Call, admit, refuse, strange
from fl_server.coordinator import Coordinator
from fl_server.model import Model
from fl_server.protection import Call as Told
from fl_server.protection import Protection
from fl_server.spool import PATIENCE_SECONDS, Spool, Spools
from fl_server.storage import Storage

log = structlog.get_logger()

STEERERS = ("observer",)

UNKNOWN = "it is no message that this server knows"
"""What the record says of one that was refused."""


class ServerService(fl_pb2_grpc.ServerServicer):
    """Models out; updates, initial weights and measurements in; observations out."""

    def __init__(self, plan: Plan, storage: Storage, coordinator: Coordinator) -> None:
        self.plan = plan
        self._coordinator = coordinator
        patience = min(PATIENCE_SECONDS, plan.selection.stall_seconds / 2)
        self._spools = Spools(storage.spool, patience=patience)
        self._pushing: dict[str, asyncio.Timeout] = {}

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
                    await self._receive(who, head, frames)
        except FLJobError as error:
            log.warning("refused", reason=str(error))
            await refuse(call, error)
        return pb.Ack()

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
        """The wish to end the job with the open round."""
        await admit(call, request, plan=self.plan, roles=STEERERS)
        if request.WhichOneof("wish") != "finish":
            await refuse(call, UpdateError("a wish is to finish; this one is none"))
        self._coordinator.finish("Stopped")
        return pb.Ack()

    @asynccontextmanager
    async def _only_push(self, worker: str) -> AsyncIterator[None]:
        """One transfer of a worker at a time: a newer one ends the older, whose connection may be dead."""
        if (older := self._pushing.get(worker)) is not None:
            older.reschedule(asyncio.get_running_loop().time())
        own = self._pushing[worker] = asyncio.timeout(None)
        try:
            async with own:
                yield
        except TimeoutError as error:
            raise UpdateError(f"{worker} has begun another transfer") from error
        finally:
            if self._pushing[worker] is own:
                del self._pushing[worker]

    async def _receive(self, who: Identity, head: pb.Transfer, frames: AsyncIterator[bytes]) -> None:
        await self._coordinator.answered(head.context, initial=head.kind == pb.KIND_INITIAL)
        if head.kind == pb.KIND_MASKED:
            await self._receive_masked(who.name, head, frames)
            return
        expected = self._coordinator.expects(head, who.name)
        manifest = expected or Manifest.from_json(head.manifest)
        admitted = self._spools.admit(manifest.nbytes, waited=lambda: self._coordinator.moved(who.name))
        with ExitStack() as stack:
            spool = stack.enter_context(await admitted)
            largest = await self._spooled(spool, head, frames, manifest=manifest, worker=who.name)
            if expected is None:
                self._coordinator.first.take(Model(manifest, b"".join(data for _, data in spool.chunks())))
                return
            fold = self._coordinator.take(who.name, head, spool=spool, largest=largest)
            stack.pop_all()
        await asyncio.shield(fold)

    async def _receive_masked(self, worker: str, head: pb.Transfer, frames: AsyncIterator[bytes]) -> None:
        nbytes = self._protection.expects(worker, head.context)
        admitted = self._spools.admit(nbytes, waited=lambda: self._coordinator.moved(worker))
        with ExitStack() as stack:
            spool = stack.enter_context(await admitted)
            receiver = Receiver(spool.take)
            receiver.open_bytes(head, nbytes=nbytes)
            await self._received(receiver, frames, worker=worker, nbytes=nbytes)
            fold = self._coordinator.take_masked(worker, spool=spool, nbytes=nbytes)
            stack.pop_all()
        await asyncio.shield(fold)

    @property
    def _protection(self) -> Protection:
        return self._coordinator.secure.protection

    async def _received(
        self, receiver: Receiver, frames: AsyncIterator[bytes], *, worker: str, nbytes: int
    ) -> None:
        """Take all frames of a transfer."""
        async for frame in frames:
            receiver.frame(frame)
            self._coordinator.moved(worker)
        if not receiver.complete:
            raise UpdateError(f"the transfer ended after {receiver.position} of {nbytes} bytes")

    async def _spooled(
        self,
        spool: Spool,
        head: pb.Transfer,
        frames: AsyncIterator[bytes],
        *,
        manifest: Manifest,
        worker: str,
    ) -> float:
        """Take a whole transfer into the spool; returns the greatest magnitude in it."""
        largest = 0.0

        def take(offset: int, data: bytes) -> None:
            nonlocal largest
            largest = max(largest, magnitude(manifest, offset, memoryview(data)))
            spool.take(offset, data)

        receiver = Receiver(take)
        receiver.open(head, expected=manifest)
        await self._received(receiver, frames, worker=worker, nbytes=manifest.nbytes)
        return largest
