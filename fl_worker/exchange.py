"""What passes between a worker and the server: the model that comes, and the update or the measurements that go."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial

import grpc
import structlog

from fl_core.errors import OrderError, UpdateError
from fl_core.metrics import Measurements
from fl_core.steps import reached
from fl_core.weights import Manifest, Weights, flat_digest, pack
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import fl_pb2_grpc
from fl_core.wire.arrays import CHUNK, Receiver, check_offset, frames, opened, unchanged
from fl_core.wire.secagg import SHORT, masked_out
from fl_worker.product import Product
from fl_worker.protection import SILENT, Protection
from fl_worker.spoiling import corrupted
from fl_worker.telemetry import Telemetry

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model; the clip norm of updates made from it, where that moves, and their ranges, where they are known."""

    weights: Weights | None = None
    clip: float = 0.0
    exponents: tuple[int, ...] = ()


@dataclass(slots=True)
class Begun:
    """A model of which so many bytes have come: what a broken call has brought is not brought again."""

    model: str
    buffer: bytearray
    position: int = 0


@dataclass(slots=True)
class Exchange:
    """One worker's way to the server and back, with the manifest of the job's model."""

    server: grpc.aio.Channel
    manifest: Manifest
    telemetry: Telemetry
    protection: Protection | None = None
    image: str = ""
    passed: int = 0
    """How many messages have come and gone: what passes is progress."""
    _pulled: tuple[str, Pulled] | None = field(default=None, init=False)
    _begun: Begun | None = field(default=None, init=False)
    _cut: str = field(default="", init=False)
    """The digest of the upload whose last call did not end well."""

    # -- what comes --

    async def pull(self, place: pb.Context, model: str) -> Pulled:
        """The model of this digest; the last one is kept."""
        if self._pulled is None or self._pulled[0] != model:
            self._pulled = (model, await self._download(place, model))
        return self._pulled[1]

    async def _download(self, place: pb.Context, model: str) -> Pulled:
        begun = self._begun
        if begun is None or begun.model != model:
            begun = self._begun = Begun(model, bytearray(self.manifest.nbytes))
        try:
            head = await self._complete(begun, place)
        except UpdateError as error:  # what came is at fault, and nothing of this worker
            self._begun = None
            raise OrderError(str(error)) from error
        except grpc.aio.AioRpcError as error:
            if error.code() not in SILENT:  # it was refused, and is asked for no more
                self._begun = None
            raise
        self._begun = None
        weights = self.manifest.views(memoryview(begun.buffer).toreadonly())
        return Pulled(weights, head.clip, tuple(head.exponents))

    async def _complete(self, begun: Begun, place: pb.Context) -> pb.Transfer:
        """Bring what a model lacks, and give the head that came with it."""
        view, had = memoryview(begun.buffer), begun.position

        def take(offset: int, data: bytes) -> None:
            begun.position = offset + len(data)
            view[offset : begun.position] = data
            self.passed += 1
            self.telemetry.bytes.labels("received", "model").inc(len(data))

        receiver = Receiver(take, position=had)
        pull = self.server.unary_stream(
            "/fljob.v1.Server/Pull",
            request_serializer=pb.PullRequest.SerializeToString,
            response_deserializer=unchanged,
        )
        came = aiter(pull(pb.PullRequest(context=place, model=begun.model, offset=had)))
        head = opened(await anext(came, b""))
        receiver.open(head, expected=self.manifest)
        reached("send", place.round)
        async for message in came:
            receiver.frame(message)
        if not receiver.complete:
            raise OrderError(f"the model ended after {receiver.position} of {self.manifest.nbytes} bytes")
        if had or self.protection is not None:
            about = (self.manifest, begun.buffer, begun.model)
            if len(begun.buffer) > SHORT:
                await asyncio.to_thread(_check_model, *about)
            else:  # less than the way to a thread and back
                _check_model(*about)
        return head

    async def recall(self, place: pb.Context) -> tuple[int, ...]:
        """The rounds of this worker whose updates are in the order's model; refuses any but earlier ones."""
        said = await fl_pb2_grpc.ServerStub(self.server).Recall(pb.RecallRequest(context=place))
        if wrong := [number for number in said.rounds if not 0 < number < place.round]:
            raise OrderError(
                f"the server counts an update of round {wrong[0]} in round {place.round}; expected one from 1 to "
                f"{place.round - 1}"
            )
        return tuple(said.rounds)

    # -- what goes --

    async def give(self, place: pb.Context, product: Product, *, model: str) -> None:
        """Hand in what was made of a model: masked where the job has secure aggregation."""
        if self.protection is not None:
            push = partial(self.push_masked, place)
            known = self._pulled[1].exponents if self._pulled and self._pulled[0] == model else ()
            summed = await self.protection.hand_in(
                place, model, product, server=self.server, push=push, image=self.image, exponents=known
            )
            log.info("summed" if summed else "not among those that were summed")
        elif product.update is not None:
            await self.push(place, pb.KIND_UPDATE, product, model=model)
        else:
            await self._measure(place, model, product)

    async def push(self, place: pb.Context, kind: pb.Kind, product: Product, *, model: str = "") -> None:
        """Send arrays in the clear, with the examples and metrics that they were made with."""
        update = product.update or {}
        manifest = Manifest.of(update)
        head = pb.Transfer(
            context=place,
            kind=kind,
            manifest=manifest.to_json(),
            nbytes=manifest.nbytes,
            examples=product.examples,
            metrics=_text(product.metrics),
            model=model,
            image=self.image,
        )
        await self._send(head, pack(update))
        log.info("handed in", nbytes=manifest.nbytes)

    async def push_masked(self, place: pb.Context, buffer: memoryview) -> pb.Masked | None:
        """Send a masked vector, unless it is so short that it goes with what is said in its session."""
        if len(buffer) > SHORT:
            await self._send(pb.Transfer(context=place, kind=pb.KIND_MASKED, nbytes=len(buffer)), buffer)
            return None
        masked = masked_out(buffer)
        masked.data = corrupted(masked.data, reached("upload", place.round))
        self._count(len(buffer))
        return masked

    async def _measure(self, place: pb.Context, model: str, product: Product) -> None:
        request = pb.MeasureRequest(context=place, model=model, metrics=_text(product.metrics))
        await fl_pb2_grpc.ServerStub(self.server).Measure(request)

    async def _send(self, head: pb.Transfer, buffer: bytes | memoryview) -> None:
        """Send a transfer; of the same bytes as one that was cut, only what has not come."""
        if len(buffer) > CHUNK:
            head.digest = await asyncio.to_thread(lambda: hashlib.sha256(buffer).hexdigest())
        if head.digest and head.digest == self._cut:
            held = await fl_pb2_grpc.ServerStub(self.server).Held(head)
            check_offset(held.offset, len(buffer), what="an update")
            head.start = held.offset
        self._cut = head.digest
        call = self.server.stream_unary(
            "/fljob.v1.Server/Push", request_serializer=unchanged, response_deserializer=pb.Ack.FromString
        )
        await call(self._counted(head, buffer))
        self._cut = ""

    async def _counted(self, head: pb.Transfer, buffer: bytes | memoryview) -> AsyncIterator[bytes]:
        for number, frame in enumerate(frames(head, buffer, start=head.start)):
            yield corrupted(frame, reached("upload", head.context.round) if number == 1 else "")
            self._count(len(frame))

    def _count(self, nbytes: int) -> None:
        self.passed += 1
        self.telemetry.bytes.labels("sent", "update").inc(nbytes)


def _check_model(manifest: Manifest, buffer: bytearray, model: str) -> None:
    """Refuse another model than the one asked for.

    All members of a sum sign its digest, and each could be given a model of its own; what came in several calls
    could be of two.
    """
    if (found := flat_digest(manifest, buffer)) != model:
        raise OrderError(f"the server gave a model with the digest {found[:12]} as {model[:12]}")


def _text(metrics: Measurements) -> str:
    return json.dumps({name: measurement.to_json() for name, measurement in metrics.items()})
