"""Secure aggregation at a worker: it holds its result, and hands it in only masked, session by session.

`fl_core.secagg.worker.Member` checks whatever the server shows; this carries its messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import grpc
import structlog

from fl_core.errors import ProtocolError
from fl_core.plan import Plan
from fl_core.secagg import flat, job, ranges
from fl_core.secagg.masks import Vector
from fl_core.secagg.ring import public_dither
from fl_core.secagg.session import Purpose
from fl_core.secagg.summands import MeasureSum, RangeSum, Schema, Summand, UpdateSum, WholeSum
from fl_core.secagg.worker import Me, Member, Step
from fl_core.steps import reached
from fl_core.weights import Manifest
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import fl_pb2_grpc
from fl_core.wire import secagg as wire
from fl_core.wire.guard import strange
from fl_worker.product import Product

log = structlog.get_logger()

Push = Callable[[memoryview], Awaitable[pb.Masked | None]]
"""Hands in the bytes of a masked vector, or makes them a message of the call where they are few."""

SILENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL)
"""The server is not there now, and may come back; INTERNAL if it ended a call while something was written to it."""

FEW_ENTRIES = 100
"""Of a roster: their keys are agreed on within a twentieth of a second."""


@dataclass(slots=True)
class Protection:
    """One worker's way into the sums of its job; `weight` is the strategy's, from a number of examples."""

    plan: Plan
    me: Me
    manifest: Manifest
    weight: Callable[[int], int]
    _cut: tuple[pb.Context, Product, Part] | None = field(default=None, init=False)
    """Where, with what and in which session its vector was on its way when the call was cut."""

    async def hand_in(
        self,
        place: pb.Context,
        model: str,
        product: Product,
        *,
        server: grpc.aio.Channel,
        push: Push,
        image: str = "",
        exponents: tuple[int, ...] = (),
    ) -> bool:
        """Wait with this result until the server has summed it, and tell whether it was among those summed.

        `exponents` are the ranges that came with the model. RoundError where the sum is not sound.
        """
        part = self._returning(place, product) or self._expected(place, model, product, exponents)
        call = fl_pb2_grpc.ServerStub(server).Protect()
        try:
            ready = _ready(model, product, part, image)
            await call.write(pb.MemberMessage(context=place, ready=ready))
            while (message := await call.read()) is not grpc.aio.EOF:
                if where := strange(message):
                    raise ProtocolError(f"the server sent fields that {where} does not have")
                if message.WhichOneof("what") == "opening":
                    part = self._part(message.opening, place, model, product)
                elif part is None:
                    raise ProtocolError("the server has opened no session")
                answer = await part.answer(message, push)
                if answer is not None:
                    answer.context.CopyFrom(place)
                    with suppress(asyncio.InvalidStateError):  # the call has ended: reading tells how
                        await call.write(answer)
        except grpc.aio.AioRpcError as error:
            if part is not None and part.sent is not None and error.code() in SILENT:
                self._cut = (place, product, part)
            raise
        finally:
            call.cancel()
        return part is not None and part.member.step == Step.DONE

    def _returning(self, place: pb.Context, product: Product) -> Part | None:
        """The part to go on with, if the last call was cut while this product was on its way for this place."""
        cut, self._cut = self._cut, None
        if cut is None or cut[0] != place or cut[1] is not product:
            return None
        cut[2].returns = True
        return cut[2]

    def _expected(
        self, place: pb.Context, model: str, product: Product, exponents: tuple[int, ...]
    ) -> Part | None:
        """The session that the server will open, where all that it sums is known here."""
        is_measured = product.update is None
        if not (is_measured or exponents or job.whole_sum_of(self.plan, self.manifest, clip=product.clip)):
            return None
        opening = pb.Opening(
            purpose="measure" if is_measured else "update",
            exponents=exponents,
            schema=Schema.of(product.metrics).text,
            bucket=job.buckets_of(self.plan).of(self.me.signer.worker),
        )
        return self._part(opening, place, model, product)

    def _part(self, opening: pb.Opening, place: pb.Context, model: str, product: Product) -> Part:
        """A session, if what is to be summed is what this worker holds."""
        if (product.update is None) != (opening.purpose == "measure"):
            made = "measured" if product.update is None else "trained"
            raise ProtocolError(
                f"the server wants {opening.purpose!r} summed; this worker has {made} a model"
            )
        schema = Schema.of(product.metrics)
        whole = job.whole_sum_of(self.plan, self.manifest, clip=product.clip)
        purpose: Purpose
        summand: Summand
        match opening.purpose:
            case "range" if whole is None:
                purpose, summand = "range", RangeSum(self.manifest)
            case "update":
                purpose, summand = "update", whole or self._updates(opening, schema)
            case "measure":
                purpose, summand = "measure", MeasureSum(schema, job.ring_of(self.plan).members)
            case other:
                raise ProtocolError(f"the server wants {other!r} summed, which nobody can")
        if isinstance(summand, UpdateSum | MeasureSum) and opening.schema != schema.text:
            raise ProtocolError(
                f"the server wants other metrics summed than {', '.join(schema.names) or 'none'}"
            )
        bucket = job.buckets_of(self.plan).of(self.me.signer.worker)
        if opening.bucket != bucket:
            raise ProtocolError(
                f"the server opens a session of bucket {opening.bucket}; this worker is in bucket {bucket} for good"
            )
        numbers = {"round": place.round, "attempt": place.attempt, "bucket": bucket}
        context = job.context_of(self.plan, summand, purpose=purpose, model=model, **numbers)
        return Part(Member(self.me, context), summand, lambda: self._vector(summand, product, place.round))

    def _updates(self, opening: pb.Opening, schema: Schema) -> UpdateSum:
        exponents = tuple(opening.exponents)
        lowest, highest = ranges.LOWEST, ranges.HIGHEST
        if len(exponents) != len(self.manifest.arrays) or not all(lowest <= e <= highest for e in exponents):
            raise ProtocolError(
                f"the server names the ranges {list(exponents)[:8]} for {len(self.manifest.arrays)} arrays; "
                f"expected as many exponents, from {lowest} to {highest}"
            )
        counted = not opening.uncounted
        return UpdateSum(job.ring_of(self.plan), self.manifest, exponents, schema, counted=counted)

    def _vector(self, summand: Summand, product: Product, round: int) -> Vector:
        """What this worker holds, as the plain vector that is to be masked."""
        match summand:
            case RangeSum():
                return summand.encode(product.update or {})
            case UpdateSum():
                return summand.encode(
                    product.update or {},
                    weight=self.weight(product.examples),
                    examples=product.examples,
                    metrics=product.metrics,
                    dither=public_dither(self.plan.seed, round=round, worker=self.me.signer.worker),
                )
            case WholeSum():
                return summand.encode(product.update or {}, vote=product.vote)
            case MeasureSum():
                return summand.encode(product.metrics)


@dataclass(slots=True)
class Part:
    """This worker's part in one session."""

    member: Member
    summand: Summand
    vector: Callable[[], Vector]
    sent: memoryview | None = None
    """The masked vector while it is on its way."""
    returns: bool = False
    """Whether the server, in a new call, asks once more for the vector that was on its way in the last one."""

    async def answer(self, message: pb.HostMessage, push: Push) -> pb.MemberMessage | None:
        """What is said to a message of the server; a long vector goes another way.

        A thread has what waits for the disk. The rest takes half a millisecond for each neighbour: where they are few
        it is less than the way to a thread and back.
        """
        match message.WhichOneof("what"):
            case "opening":
                return pb.MemberMessage(advertisement=wire.entry_out(self.member.advertise()))
            case "roster":
                roster = wire.roster_in(message.roster)
                if len(roster.entries) > FEW_ENTRIES:
                    sealed = await asyncio.to_thread(self.member.share, roster)
                else:
                    sealed = self.member.share(roster)
                return pb.MemberMessage(shares=pb.SealedShares(shares=dict(sealed)))
            case "dealt":
                if self.sent is None or not self.returns:
                    self.sent = await asyncio.to_thread(self._masked, dict(message.dealt.shares))
                self.returns = False
                masked = await push(self.sent)
                self.sent = None
                return None if masked is None else pb.MemberMessage(masked=masked)
            case "survivors":
                signature = await asyncio.to_thread(self.member.sign, list(message.survivors.workers))
                return pb.MemberMessage(signature=pb.Signature(signature=signature))
            case "agreement":
                reached("unmask", self.member.context.round)
                answer = self.member.unmask(wire.agreement_in(message.agreement))
                log.info("unmasked", sum=str(self.member.context), members=len(message.agreement.signatures))
                return pb.MemberMessage(unmasking=wire.unmasking_out(answer))
            case other:
                raise ProtocolError(f"the server sends {other or 'nothing'}, which no session expects")

    def _masked(self, dealt: dict[int, bytes]) -> memoryview:
        vector, layout = self.vector(), self.summand.layout
        self.member.mask(vector, layout, dealt)
        return flat.pack(vector)


def _ready(model: str, product: Product, part: Part | None, image: str) -> pb.Ready:
    """A worker holds its result; to a session that it knows already it returns, or advertises for it at once."""
    ready = pb.Ready(model=model, schema=Schema.of(product.metrics).text, image=image)
    if part is not None and part.returns:
        ready.returns = True
    elif part is not None:
        ready.context = part.member.context.digest
        ready.advertisement.CopyFrom(wire.entry_out(part.member.advertise()))
    return ready
