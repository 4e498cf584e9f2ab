"""Secure aggregation at the server: the members' open calls, and one session after another over them.

`fl_core.secagg.server.Host` decides what may come; this drives it with sockets and the clock. A member that breaks the
protocol, falls silent or leaves is out of the session; the session goes on while enough are left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from fl_core.errors import ProtocolError, RoundError
from fl_core.plan import Plan
from fl_core.rounds import Gathering
from fl_core.secagg import flat
from fl_core.secagg.masks import Layout, Vector
from fl_core.secagg.messages import Agreement, Shares
from fl_core.secagg.server import Host
from fl_core.secagg.session import Context, Purpose
from fl_core.secagg.signing import Trust
from fl_core.secagg.summands import MeasureSum, Summand, UpdateSum
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import secagg as wire
from fl_server.journal import Journal
from fl_server.spool import Spool

log = structlog.get_logger()

STEP_SECONDS = 30.0
"""A member that owes a message of a few kilobytes for so long is out; vectors have the job's `stallSeconds`."""

GRACE_SECONDS = 1.0
"""How long the others may take once enough have answered to go on."""

Unmasking = Callable[[Context], Awaitable[None]]
"""Awaited before anybody is asked for the shares that open a sum."""


async def unheeded(context: Context) -> None:
    """Nothing needs to be done first."""


Call = asyncio.Queue[pb.HostMessage | RoundError | None]
"""What a member is told; an error or None ends its call."""


class Protection:
    """The members that are ready, and the session that is open among them."""

    def __init__(
        self,
        plan: Plan,
        trust: Trust,
        journal: Journal,
        *,
        dropped: Callable[[str, str], None],
        unmasking: Unmasking = unheeded,
    ) -> None:
        self.journal = journal
        self._selection = plan.selection
        self._trust = trust
        self._dropped = dropped
        self._unmasking = unmasking
        self._calls: dict[str, Call] = {}
        self._open: Opened | None = None
        self._due: Gathering | None = None
        self._news = asyncio.Event()

    # -- calls, as the service sees them --

    def join(self, worker: str) -> Call:
        """A worker that holds its result opens a call; an older one of it ends."""
        if older := self._calls.get(worker):
            self.leave(worker, older)
            older.put_nowait(ProtocolError(f"{worker} has begun another call"))
        call = self._calls[worker] = Call()
        return call

    def leave(self, worker: str, call: Call) -> None:
        """A call has ended."""
        if self._calls.get(worker) is call:
            del self._calls[worker]
            self.lost(worker, "gone")

    def heard(self, worker: str, message: pb.MemberMessage) -> None:
        """A member says something; what the protocol does not allow ends its part."""
        try:
            self._expected_of(worker)
            self._session.check_place(worker, message.context)
            self._session.take(worker, message)
        except RoundError as error:
            self.refuse(worker, error)
        else:
            self._answered(worker)

    def refuse(self, worker: str, error: RoundError) -> None:
        """A member says what it must not: it is out of the session, and its call ends with the reason."""
        log.warning("refused", reason=str(error))
        self.lost(worker, "refused")
        if call := self._calls.get(worker):
            call.put_nowait(error)

    def lost(self, worker: str, reason: str) -> None:
        """Nothing more will come from this worker."""
        if self._due is not None and worker in self._due.missing:
            self._due.drop(worker, reason)
            self._dropped(worker, reason)
            self._news.set()

    def moved(self, worker: str) -> None:
        """A member's vector comes in."""
        if self._due is not None and worker in self._due.missing:
            self._due.moved[worker] = time.monotonic()

    def expects(self, worker: str, place: pb.Context) -> int:
        """Bytes of the vector that is due from this member; refuses one that is not."""
        self._expected_of(worker)
        self._session.check_place(worker, place)
        self._session.host.expects_vector(number(worker))
        return self._session.layout.nbytes

    def take(self, worker: str, spool: Spool) -> asyncio.Task[None]:
        """A whole vector is folded into the sum; from here on the spool belongs to the fold."""
        self._expected_of(worker)
        fold = self._session.fold(worker, spool)
        self._answered(worker)
        return fold

    def dismiss(self) -> None:
        """The attempt is over: every call ends."""
        for call in self._calls.values():
            call.put_nowait(None)

    # -- a session --

    async def sum(self, summand: Summand, context: Context, members: Sequence[str]) -> Sum:
        """Sum what these members hold; RoundError where that cannot be."""
        candidates = self.journal.candidates(context.round, context.purpose)
        host = Host(context, self._trust, candidates=candidates)
        self._open = Opened(host, summand.layout)
        deadline = time.monotonic() + self._selection.deadline_seconds
        try:
            return await self._steps(self._open, summand, members, deadline=deadline)
        finally:
            self._open = self._due = None

    async def _steps(
        self, session: Opened, summand: Summand, members: Sequence[str], *, deadline: float
    ) -> Sum:
        host, context = session.host, session.host.context
        place = (context.round, context.attempt, context.purpose)
        opening = _opening(summand, context.purpose)
        await self._ask(dict.fromkeys(members, opening), until=deadline)
        rosters = host.freeze()
        each = {id(one): one for one in rosters.values()}  # in cross-silo all are shown the same
        shown = {key: pb.HostMessage(roster=wire.roster_out(one)) for key, one in each.items()}
        asked = {name(worker): shown[id(one)] for worker, one in rosters.items()}
        await self._ask(asked, until=deadline)
        dealt = host.deal()
        await asyncio.to_thread(self.journal.dealt, *place, candidates=host.frozen.candidates)
        asked = {name(worker): _dealt(shares) for worker, shares in dealt.items()}
        await self._ask(asked, until=deadline, stall=self._selection.stall_seconds)
        survivors = host.close()
        await asyncio.to_thread(self.journal.signed, *place)
        listed = pb.HostMessage(survivors=pb.Survivors(workers=survivors))
        await self._ask(
            dict.fromkeys(map(name, survivors), listed), until=deadline, enough=lambda: host.agreed
        )
        asked = {name(worker): _agreement(proof) for worker, proof in host.agree().items()}
        await self._unmasking(context)
        await self._ask(asked, until=deadline, enough=lambda: host.recoverable)
        await session.folded()
        recovery = await asyncio.to_thread(host.open, session.total, session.layout)
        if recovery.liars:
            log.warning("wrong shares", workers=[name(worker) for worker in sorted(recovery.liars)])
        return Sum(session.total, tuple(map(name, survivors)))

    async def _ask(
        self,
        messages: Mapping[str, pb.HostMessage],
        *,
        until: float,
        stall: float = STEP_SECONDS,
        enough: Callable[[], bool] = lambda: False,
    ) -> None:
        """Tell each of these something, and wait until all have answered or are out; a little once `enough` have."""
        here = [worker for worker in messages if worker in self._calls]
        for worker in sorted(set(messages).difference(here)):
            self._dropped(worker, "gone")
        due = self._due = Gathering(
            cohort=frozenset(here),
            enough=len(here),
            minimum=0,
            stall=stall,
            deadline=until,
            moved=dict.fromkeys(here, time.monotonic()),
        )
        for worker in here:
            self._calls[worker].put_nowait(messages[worker])
        patience = until
        while True:
            self._news.clear()
            due.pass_time(time.monotonic())
            if due.over or time.monotonic() >= patience:
                break
            if enough():
                patience = min(patience, time.monotonic() + GRACE_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(_loop_time(min(due.wake(), patience))):
                    await self._news.wait()
        for worker, reason in due.dropped.items():
            self._dropped(worker, reason)

    @property
    def _session(self) -> Opened:
        if self._open is None:
            raise ProtocolError("no session is open")
        return self._open

    def _expected_of(self, worker: str) -> None:
        if self._due is None or worker not in self._due.missing:
            raise ProtocolError(f"nothing (more) is expected of {worker} in this step")

    def _answered(self, worker: str) -> None:
        if self._due is not None:
            self._due.report(worker)
        self._news.set()


@dataclass(frozen=True, slots=True)
class Sum:
    """What an opened session gives: the plain sum, and whose vectors are in it."""

    total: Vector
    members: tuple[str, ...]


class Opened:
    """A session with the sum that it fills."""

    def __init__(self, host: Host, layout: Layout) -> None:
        self.host = host
        self.layout = layout
        self.total = Vector.zeros(layout)
        self._folds: list[asyncio.Task[None]] = []
        self._lock = asyncio.Lock()

    def check_place(self, worker: str, said: pb.Context) -> None:
        """Refuse what is said of another job, round or attempt."""
        here = self.host.context
        if (said.job, said.plan, said.round, said.attempt) != (here.job, here.plan, here.round, here.attempt):
            raise ProtocolError(
                f"{worker} speaks of round {said.round}, attempt {said.attempt} of job {said.job!r}; "
                f"the open session is {here}"
            )

    def take(self, worker: str, message: pb.MemberMessage) -> None:
        """Hand a member's message to the protocol."""
        who = number(worker)
        match message.WhichOneof("what"):
            case "advertisement":
                self.host.advertised(who, wire.entry_in(message.advertisement))
            case "shares":
                self.host.shared_by(who, dict(message.shares.shares))
            case "signature":
                self.host.signed(who, message.signature.signature)
            case "unmasking":
                self.host.unmasked(who, wire.unmasking_in(message.unmasking))
            case other:
                raise ProtocolError(f"{worker} sends {other or 'nothing'}, which no session expects")

    def fold(self, worker: str, spool: Spool) -> asyncio.Task[None]:
        """Count a whole vector in, and add it as soon as it is its turn."""
        self.host.arrived(number(worker))
        task = asyncio.create_task(self._fold(spool))
        self._folds.append(task)
        return task

    async def folded(self) -> None:
        """All that was counted in is in the sum."""
        await asyncio.gather(*self._folds)

    async def _fold(self, spool: Spool) -> None:
        with spool:
            async with self._lock:
                await asyncio.to_thread(flat.add, self.total, self.layout, spool.chunks())


def name(worker: int) -> str:
    """As logs, records and certificates call a worker."""
    return f"worker-{worker}"


def number(worker: str) -> int:
    """The number in a worker's name."""
    return int(worker.removeprefix("worker-"))


def _loop_time(moment: float) -> float:
    """The event loop's time at this moment of the monotonic clock."""
    return asyncio.get_running_loop().time() + moment - time.monotonic()


def _opening(summand: Summand, purpose: Purpose) -> pb.HostMessage:
    opening = pb.Opening(purpose=purpose)
    if isinstance(summand, UpdateSum):
        opening.exponents[:] = summand.exponents
    if isinstance(summand, UpdateSum | MeasureSum):
        opening.schema = summand.schema.text
    return pb.HostMessage(opening=opening)


def _dealt(shares: Shares) -> pb.HostMessage:
    return pb.HostMessage(dealt=pb.SealedShares(shares=dict(shares)))


def _agreement(proof: Agreement) -> pb.HostMessage:
    return pb.HostMessage(agreement=pb.Agreement(signatures=dict(proof.signatures)))
