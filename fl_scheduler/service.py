"""The scheduler's gRPC service: it drives the roster with sockets and the real clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping

import structlog
from google.protobuf.message import DecodeError

from fl_core import roster as r
from fl_core.cohorts import MOST_NAMED, ONE, Draw
from fl_core.errors import FencedError, FLJobError, MismatchError
from fl_core.extensions import build
from fl_core.plan import Plan
from fl_core.replay import Replay
from fl_core.secagg.job import buckets_of
from fl_core.selection import Policy
from fl_core.shortfall import own
from fl_core.steps import reached
from fl_core.weights import Manifest
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import fl_pb2_grpc
from fl_core.wire.guard import Call, admit, context_of, refuse, sendable
from fl_scheduler.metrics import Metrics

log = structlog.get_logger()

Outbox = asyncio.Queue[pb.Order | None]

MOST_REASON = 1024
"""Characters of what a worker says that are passed on."""

MOST_REFUSAL = 256
"""Characters of a refusal that are kept for the record."""

MOST_MANIFESTS = 8
"""How many kinds of model are remembered, so that what is wrong with one can be said."""


class SchedulerService(fl_pb2_grpc.SchedulerServicer):
    """Workers attend, the server convenes; the roster decides."""

    def __init__(self, plan: Plan, *, replicas: int | None = None, replay: Replay | None = None) -> None:
        policy = build(plan.selection.policy, within="fl_core.selection", protocol=Policy)
        self.plan = plan
        expected = _expected(plan, plan.pool if replicas is None else replicas)
        draw = Draw(policy, seed=plan.seed, buckets=buckets_of(plan) if plan.secure_aggregation else ONE)
        cohorts = replay.cohorts if replay else None
        self.roster = r.Roster(plan.selection, draw, expected=expected, replayed=cohorts)
        self.metrics = Metrics(plan.selection.policy.name)
        self.dismissed = asyncio.Event()
        self._outboxes: dict[str, Outbox] = {}
        self._refused: dict[str, str] = {}
        self._manifests: dict[str, Manifest] = {}
        self._events: asyncio.Queue[pb.CohortEvent | None] | None = None
        self._epoch = 0
        self._changed = asyncio.Event()

    async def Attend(self, requests: AsyncIterator[pb.Presence], call: Call) -> AsyncIterator[pb.Order]:  # noqa: N802
        """A worker's whole life: enrolment, beats, orders."""
        first = await anext(aiter(requests), pb.Presence())
        name = (await admit(call, first, plan=self.plan, roles=("worker",))).name
        try:
            enrolment = self._enrolment(first)
        except FLJobError as error:
            self._note(name, str(error))
            await refuse(call, error)
            return
        self._refused.pop(name, None)
        outbox = self._outboxes[name] = Outbox()
        outbox.put_nowait(self._order(welcome=pb.Welcome(beat_seconds=r.BEAT_SECONDS)))
        self._do(self.roster.enrol(name, enrolment, now=time.monotonic()))
        log.info("enrolled", worker=name, live=self.roster.count)
        if self.dismissed.is_set():
            outbox.put_nowait(self._order(stop=pb.Stop(reason="the job is over")))
        beats = asyncio.create_task(self._beats(name, requests, outbox))
        try:
            while (order := await outbox.get()) is not None:
                yield order
        finally:
            beats.cancel()
            if self._outboxes.get(name) is outbox:
                del self._outboxes[name]
                self.roster.leave(name, now=time.monotonic())
                self._changed.set()

    async def Convene(self, request: pb.Convening, call: Call) -> AsyncIterator[pb.CohortEvent]:  # noqa: N802
        """A cohort for the server, for as long as it needs one; a later call ends this one."""
        await admit(call, request, plan=self.plan, roles=("server",))
        await self._admit_newest(call, request.epoch)
        if request.HasField("train"):
            reached("select", request.context.round)
        if self._events is not None:
            self._events.put_nowait(None)
        events = self._events = asyncio.Queue()
        self._do(self.roster.call(_call(request), now=time.monotonic()))
        try:
            while (event := await events.get()) is not None:
                yield event
        finally:
            if self._events is events:
                self._events = None
                self._do(self.roster.close())

    async def Dismiss(self, request: pb.Dismissal, call: Call) -> pb.Ack:  # noqa: N802
        """The job is over: every worker is told to stop."""
        await admit(call, request, plan=self.plan, roles=("server",))
        await self._admit_newest(call, request.epoch)
        for outbox in self._outboxes.values():
            outbox.put_nowait(self._order(stop=pb.Stop(reason=request.reason)))
        self.dismissed.set()
        return pb.Ack()

    async def keep_time(self) -> None:
        """Wake the roster when a lease or a wait ends; runs until it is cancelled."""
        while True:
            self._changed.clear()
            wake = self.roster.wake()
            timeout = None if wake is None else max(wake - time.monotonic(), 0)
            try:
                async with asyncio.timeout(timeout):
                    await self._changed.wait()
            except TimeoutError:
                self._do(self.roster.tick(now=time.monotonic()))

    async def drained(self) -> None:
        """Return once every worker has gone."""
        while self._outboxes:
            self._changed.clear()
            await self._changed.wait()

    async def _admit_newest(self, call: Call, epoch: int) -> None:
        """Refuse a server that a newer one has taken the storage from: it may not know of that yet."""
        if epoch < self._epoch:
            sentence = (
                f"a newer server of this job has called (its claim to the storage has epoch {self._epoch}, this one's "
                f"{epoch}); this one is asked by nobody any more and ends; nothing is to be done, unless its storage "
                "was put back from a backup or is new: then start the scheduler again"
            )
            log.warning("refused", reason=sentence)
            await refuse(call, FencedError(sentence))
        self._epoch = epoch

    async def _beats(self, name: str, requests: AsyncIterator[pb.Presence], outbox: Outbox) -> None:
        try:
            async for presence in requests:
                if not self._heard(name, presence):
                    break
        except DecodeError:
            log.warning("refused", reason=f"{name} sent bytes that are no message", worker=name)
        outbox.put_nowait(None)

    def _heard(self, name: str, presence: pb.Presence) -> bool:
        """Tell the roster what a worker says; whether it stays."""
        place, what = presence.context, presence.WhichOneof("what")
        about = {"worker": name, "round": place.round, "attempt": place.attempt}
        if what == "beat":
            self._do(self.roster.beat(name, steps=presence.beat.moved, now=time.monotonic()))
        elif what == "decline":
            reason = own(name, presence.decline.reason[:MOST_REASON])
            log.warning("declined", reason=reason, **about)
            self._do(self.roster.decline(name, round=place.round, attempt=place.attempt, reason=reason))
        elif what == "leave":
            reason = own(name, presence.leave.reason[:MOST_REASON])
            log.warning("left", reason=reason, **about)
            self._do(self.roster.quit(name, reason=reason))
        elif what == "parting":
            log.info("told to end", **about)
            self._do(self.roster.part(name, round=place.round, attempt=place.attempt))
        return name in self.roster.members

    def _enrolment(self, presence: pb.Presence) -> r.Enrolment:
        said = presence.enrolment
        expected = self.plan.program.sha256 or ""
        if said.program != expected:
            raise MismatchError(
                f"the program's digest is {said.program[:12]!r}, the job's is {expected[:12]!r}; "
                "every worker needs the job's own program files"
            )
        manifest = Manifest.from_json(said.manifest)
        if len(self._manifests) < MOST_MANIFESTS:
            self._manifests.setdefault(manifest.digest, manifest)
        return r.Enrolment(weights=said.weights, manifest=manifest.digest, moves=said.moves)

    def _do(self, actions: Iterable[r.Action]) -> None:
        for action in actions:
            self._tell(action)
        self.metrics.live.set(self.roster.count)
        self._changed.set()

    def _tell(self, action: r.Action) -> None:
        match action:
            case r.Order(worker, call):
                log.info(
                    "ordered", worker=worker, purpose=call.purpose, round=call.round, attempt=call.attempt
                )
                self._send(worker, _wish(self.plan, call))
            case r.Release(worker, call):
                context = context_of(self.plan, round=call.round, attempt=call.attempt)
                self._send(worker, pb.Order(context=context, release=pb.Release()))
            case r.Refuse(worker, found, expected):
                sentence = self._misfit(worker, found, expected)
                log.warning("refused", worker=worker, reason=sentence)
                self.metrics.refused.inc()
                self._note(worker, sentence)
                self._send(worker, self._order(refusal=pb.Refusal(sentence=sentence)))
            case _:
                if isinstance(action, r.Chosen):
                    self.metrics.selected(chosen=len(action.workers), live=self.roster.count)
                if self._events is not None:
                    self._events.put_nowait(_event(action, self._refused, live=self.roster.count))

    def _misfit(self, worker: str, found: str, expected: str) -> str:
        """Why a worker whose model has this manifest cannot take part in the job that has that one."""
        theirs, model = self._manifests.get(found), self._manifests.get(expected)
        difference = model.difference(theirs) if theirs is not None and model is not None else ""
        where = f": {difference}" if difference else ""
        return (
            f"{worker}'s model has other arrays, shapes or dtypes than the job's{where}; "
            "every worker needs the same program and configuration"
        )

    def _note(self, worker: str, why: str) -> None:
        """Remember the newest refusals, for the record."""
        self._refused.pop(worker, None)
        self._refused[worker] = sendable(why[:MOST_REFUSAL])
        while len(self._refused) > MOST_NAMED:
            del self._refused[next(iter(self._refused))]

    def _send(self, worker: str, order: pb.Order) -> None:
        if outbox := self._outboxes.get(worker):
            outbox.put_nowait(order)

    def _order(self, **what: pb.Welcome | pb.Stop | pb.Refusal) -> pb.Order:
        return pb.Order(context=context_of(self.plan), **what)  # type: ignore[arg-type]  # one of the three


def _expected(plan: Plan, replicas: int) -> list[str]:
    """The workers that are there from the start: so many of the pool, and every site."""
    numbers = (*range(min(replicas, plan.pool)), *range(plan.pool, plan.workers))
    return [f"worker-{number}" for number in numbers]


def _call(request: pb.Convening) -> r.Call:
    return r.Call(
        purpose=request.WhichOneof("purpose") or "train",
        round=request.context.round,
        attempt=request.context.attempt,
        draw=request.draw or 1,
        model=request.model,
        manifest=request.manifest,
        workers=tuple(request.evaluate.workers) or tuple(request.rejoin.workers),
        only=tuple(request.only.workers),
    )


def _wish(plan: Plan, call: r.Call) -> pb.Order:
    order = pb.Order(context=context_of(plan, round=call.round, attempt=call.attempt))
    if call.purpose == "initialise":
        order.initialise.SetInParent()
    elif call.purpose in {"train", "rejoin"}:
        order.train.model = call.model
    else:
        order.evaluate.model = call.model
    return order


def _event(action: r.Action, refused: Mapping[str, str], *, live: int) -> pb.CohortEvent:
    match action:
        case r.Chosen(workers, dissenters, silent, weights, manifest, others):
            cohort = pb.Cohort(workers=workers, dissenters=dissenters, silent=silent)
            cohort.weights, cohort.manifest = weights, manifest
            if others is not None:
                cohort.live, cohort.away = others.live, others.away
                cohort.passed_over[:], cohort.absent[:] = others.passed_over, others.absent
                cohort.refused.extend(pb.Loss(worker=name, reason=why) for name, why in refused.items())
            return pb.CohortEvent(cohort=cohort)
        case r.Lost(worker, reason):
            return pb.CohortEvent(lost=pb.Loss(worker=worker, reason=reason, live=live))
        case r.Moved(worker):
            return pb.CohortEvent(moved=pb.Motion(worker=worker))
        case r.Failed(sentence):
            return pb.CohortEvent(failure=sentence)
        case r.Waiting(here, wanted, absent):
            return pb.CohortEvent(waiting=pb.Waiting(live=here, wanted=wanted, absent=absent))
        case _:
            raise TypeError(f"{action} is not for the server")
