"""A worker's conversation with scheduler and server, on an event loop beside the main thread.

The user's code has the main thread to itself (docs/decisions/0005): orders go to it through a queue, and
what it made comes back as the result of a future.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from queue import SimpleQueue

import grpc
import structlog

from fl_core import logs
from fl_core.errors import MismatchError, OrderError, RoundError, UpdateError
from fl_core.plan import Plan
from fl_core.serving import Health
from fl_core.shortfall import BUSY
from fl_core.weights import Manifest, Weights, digest
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import fl_pb2_grpc
from fl_core.wire.guard import context_of
from fl_worker.discretion import Discretion
from fl_worker.exchange import Exchange, Pulled
from fl_worker.product import Product
from fl_worker.protection import SILENT, Protection
from fl_worker.telemetry import Telemetry

log = structlog.get_logger()

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0
"""Seconds before a worker calls a silent peer again; doubled from the first to the longest."""

STUCK_DEADLINES = 2
"""User code that has been at one order for so many of the round's deadlines does not come back."""

FAREWELL_SECONDS = 1.0
"""How long the scheduler may take to let a worker go that was told to end."""

BUSY_SECONDS = 1.0
"""How long an order waits for user code that does not come back, in case it does."""

FOREIGN = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.PERMISSION_DENIED)
"""The scheduler knows this worker as one of another job."""


@dataclass(frozen=True, slots=True)
class Work:
    """An order for the main thread; `weights` is None when the initial ones are wanted, `clip` came with them.

    `counted` are the rounds whose updates of this worker the model has, where its stages remember something. The
    `context` names the round and attempt in the log lines that are written meanwhile.
    """

    kind: str
    round: int
    weights: Weights | None
    result: Future[Product]
    context: Context = field(default_factory=copy_context)
    clip: float = 0.0
    counted: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a worker says of itself: as it enrols, with each update the `image` that it was told, and when it fails."""

    weights: str
    manifest: Manifest
    moves: bool
    discretion: Discretion
    image: str = ""


@dataclass(frozen=True, slots=True)
class Outside:
    """What others may see of this worker: its figures, and whether it is ready."""

    telemetry: Telemetry
    health: Health


Key = tuple[str, int, str]
"""What was ordered, in which round, for which model: the same key gives the same product."""


class Session:
    """One worker's attendance, from enrolment to Stop."""

    def __init__(
        self,
        plan: Plan,
        own: Introduction,
        *,
        inbox: SimpleQueue[Work | None],
        steps: Callable[[], int],
        outside: Outside,
        protection: Protection | None = None,
        grace: float = 0.0,
    ) -> None:
        self._plan = plan
        self._own = own
        self._inbox = inbox
        self._steps = steps
        self._outside = outside
        self._protection = protection
        self._grace = grace
        self._pause = FIRST_PAUSE
        self._made: tuple[Key, asyncio.Future[Product]] | None = None
        self._began = 0.0
        self._open: asyncio.Task[None] | None = None
        self._wanted: pb.Order | None = None
        self._stopped = False
        self._parting: asyncio.Task[None] | None = None
        self._talking: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._outbox: asyncio.Queue[pb.Presence] = asyncio.Queue()

    async def attend(self, scheduler: grpc.aio.Channel, server: grpc.aio.Channel) -> bool:
        """Attend until Stop, or until it parts; gives whether it was told to."""
        if self._parting is not None:
            return True
        own = self._own
        self._exchange = Exchange(
            server, own.manifest, self._outside.telemetry, self._protection, image=own.image
        )
        self._talking = asyncio.create_task(self._talk(fl_pb2_grpc.SchedulerStub(scheduler)))
        try:
            await asyncio.wait({self._talking})
        finally:
            self._talking.cancel()
        if not self._talking.cancelled():
            self._talking.result()
        if self._failure is not None:
            raise self._failure
        return not self._stopped

    def part(self) -> None:
        """End soon: take on nothing more, and hand in what is open if the grace is long enough for it."""
        if self._parting is None:
            self._parting = asyncio.create_task(self._part())

    async def _part(self) -> None:
        """Say that this worker goes, at once where nothing is open, and go; no longer than the grace."""
        if self._talking is None:
            return
        if self._open is not None and not self._open.done() and self._wanted is not None:
            place = self._wanted.context
            log.info("told to end; what is open is handed in first", round=place.round, seconds=self._grace)
            self._outbox.put_nowait(pb.Presence(context=place, parting=pb.Parting()))
            await asyncio.wait(
                {self._open, self._talking}, timeout=self._grace, return_when=asyncio.FIRST_COMPLETED
            )
        log.info("told to end")
        self._outbox.put_nowait(pb.Presence(context=context_of(self._plan), parting=pb.Parting()))
        await asyncio.wait({self._talking}, timeout=FAREWELL_SECONDS)
        self._talking.cancel()

    async def _talk(self, stub: fl_pb2_grpc.SchedulerStub) -> None:
        """Dial again, ever more patiently, whenever the scheduler is silent; who was told to end dials no more."""
        while True:
            reason = "it ended the call"
            try:
                await self._attend_once(stub)
            except grpc.aio.AioRpcError as error:
                reason = error.details() or error.code().name
                if error.code() in FOREIGN:
                    raise MismatchError(reason) from error
            if self._stopped or self._parting is not None:
                return
            log.warning("the scheduler does not answer", reason=reason, again_in=self._pause)
            await self._rest()

    async def _rest(self) -> None:
        await asyncio.sleep(random.uniform(self._pause / 2, self._pause))  # noqa: S311 - jitter
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    async def _attend_once(self, stub: fl_pb2_grpc.SchedulerStub) -> None:
        self._outbox = asyncio.Queue()
        beating: asyncio.Task[None] | None = None
        try:
            async for order in stub.Attend(self._presence()):
                if order.WhichOneof("what") == "welcome":
                    self._outside.health.ready, self._pause = True, FIRST_PAUSE
                    log.info("enrolled")
                    beating = asyncio.create_task(self._beat(order.welcome.beat_seconds))
                elif self._obey(order):
                    return
        finally:
            self._outside.health.ready = False
            if beating is not None:
                beating.cancel()

    async def _presence(self) -> AsyncIterator[pb.Presence]:
        enrolment = pb.Enrolment(
            program=self._plan.program.sha256 or "",
            weights=self._own.weights,
            manifest=self._own.manifest.to_json(),
            moves=self._own.moves,
        )
        yield pb.Presence(context=context_of(self._plan), enrolment=enrolment)
        while True:
            yield await self._outbox.get()

    async def _beat(self, seconds: float) -> None:
        """Say in time that this worker lives, and whether it has moved: how much would tell how much data it has."""
        seen = moves = 0
        while True:
            steps = self._steps() + self._exchange.passed
            if steps != seen:
                seen, moves = steps, moves + 1
            self._outbox.put_nowait(pb.Presence(context=context_of(self._plan), beat=pb.Beat(moved=moves)))
            await asyncio.sleep(seconds)

    # -- orders --

    def _obey(self, order: pb.Order) -> bool:
        """Start what is wanted; True when the job is over."""
        what = order.WhichOneof("what")
        if what == "stop":
            log.info("stop", reason=order.stop.reason)
            self._stopped = True
        elif what == "refusal":
            raise MismatchError(order.refusal.sentence)
        elif what == "release":
            self._drop()
        elif self._parting is None and (self._wanted != order or self._open is None or self._open.done()):
            self._drop()
            self._wanted = order
            self._open = asyncio.create_task(self._fulfil(order, str(what)))
        return self._stopped

    def _drop(self) -> None:
        """Nothing more is wanted; what the main thread has made is kept, for the same order may come again."""
        self._wanted = None
        if self._open is not None:
            self._open.cancel()

    async def _fulfil(self, order: pb.Order, what: str) -> None:
        place = order.context
        logs.bind(round=place.round, attempt=place.attempt)
        try:
            while not await self._handed_in(order, what):
                await self._rest()
        except RoundError as error:
            log.warning("nothing to hand in", reason=str(error))
            decline = pb.Decline(reason=self._own.discretion.declining(error))
            self._outbox.put_nowait(pb.Presence(context=place, decline=decline))
        except Exception as error:  # noqa: BLE001 - `attend` raises it
            self._failure = error
            self._stopped = True
            leave = pb.Leave(reason=self._own.discretion.leaving(error))
            self._outbox.put_nowait(pb.Presence(context=place, leave=leave))

    async def _handed_in(self, order: pb.Order, what: str) -> bool:
        """Carry an order out; False where the server is silent, so that it is worth another try."""
        place = order.context
        model = order.train.model or order.evaluate.model
        self._check_order(what, place.round, model)
        try:
            product = await self._product((what, place.round, model), place)
            if what == "initialise":
                await asyncio.to_thread(self._check_initial, product)
                await self._exchange.push(place, pb.KIND_INITIAL, product)
            else:
                await self._exchange.give(place, product, model=model)
        except grpc.aio.AioRpcError as error:
            reason = error.details() or error.code().name
            if error.code() not in SILENT:
                raise OrderError(f"the server refused: {reason}") from error
            log.warning("the server does not answer", reason=reason, again_in=self._pause)
            return False
        self._pause = FIRST_PAUSE
        return True

    def _check_order(self, what: str, round: int, model: str) -> None:
        """Refuse to train or measure without a model, or in a round that the plan does not have."""
        if what == "initialise":
            return
        if not 1 <= round <= self._plan.rounds:
            raise OrderError(
                f"round {round} is asked for; only the {self._plan.rounds} that the plan has are trained and measured"
            )
        if not model:
            raise OrderError(f"an order to {what} in round {round} names no model; expected its digest")

    def _check_initial(self, product: Product) -> None:
        """Refuse to hand in other arrays in the clear than those that this worker enrolled with."""
        if (found := digest(product.update or {})) != self._own.weights:
            raise UpdateError(
                f"the initial weights have the digest {found[:12]}; this worker enrolled with {self._own.weights[:12]}"
            )

    async def _product(self, key: Key, place: pb.Context) -> Product:
        """What the main thread makes of an order; made once, however often it is asked for."""
        if self._made is None or self._made[0] != key:
            pulled = await self._exchange.pull(place, key[2]) if key[2] else Pulled()
            await self._idle()
            recalls = key[0] == "train" and self._plan.compression
            counted = await self._exchange.recall(place) if recalls else ()
            result: Future[Product] = Future()
            self._began = time.monotonic()
            self._inbox.put(
                Work(key[0], key[1], pulled.weights, result, copy_context(), pulled.clip, counted)
            )
            self._made = (key, asyncio.wrap_future(result))
        return await asyncio.shield(self._made[1])

    async def _idle(self) -> None:
        """Wait for user code that works on for an earlier order; decline if it does not come back.

        Until then waiting is right: it may be a slow round, or a server that has gone back to a checkpoint.
        """
        if self._made is None:
            return
        (what, number, _), earlier = self._made
        stuck = self._began + STUCK_DEADLINES * self._plan.selection.deadline_seconds
        done, _ = await asyncio.wait({earlier}, timeout=max(stuck - time.monotonic(), BUSY_SECONDS))
        if not done:
            raise OrderError(f"{BUSY}: {what}, round {number}")
