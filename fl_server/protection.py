"""Secure aggregation at the server: the members' open calls, and sessions over them, one at a time in each bucket.

`fl_core.secagg.server.Host` decides what may come; this drives it with sockets and the clock. A member that breaks the
protocol, falls silent or leaves is out of the session; the session goes on while enough are left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType

import structlog

from fl_core.errors import ProtocolError, RoundError
from fl_core.gathering import Gathering
from fl_core.plan import Plan
from fl_core.roster import RETURN_SECONDS
from fl_core.secagg import job
from fl_core.secagg.masks import Vector
from fl_core.secagg.messages import Agreement, Shares
from fl_core.secagg.server import Host
from fl_core.secagg.session import SHOWN, Context, named
from fl_core.secagg.signing import Trust
from fl_core.secagg.summands import MeasureSum, Summand, UpdateSum
from fl_core.shortfall import BEGUN, GONE, LEFT, refused
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import secagg as wire
from fl_server.journal import Journal
from fl_server.opened import Opened, name, number
from fl_server.spool import Spool

log = structlog.get_logger()

STEP_SECONDS = 30.0
"""A member that owes a message of a few kilobytes for so long is out; vectors have the job's `stallSeconds`."""

GRACE_SECONDS = 1.0
"""How long the others may take once enough have answered to go on."""

LATE = {"survivors": "signature", "agreement": "unmasking"}
"""What a member answers, by what asks for it, once its vector is in the sum; where others have, it may be late."""

Unmasking = Callable[[Context], Awaitable[None]]
"""Awaited before anybody is asked for the shares that open a sum."""


async def unheeded(context: Context) -> None:
    """Nothing needs to be done first."""


Call = asyncio.Queue[pb.HostMessage | RoundError | None]
"""What a member is told; an error or None ends its call."""


class Protection:
    """The members that are ready, and the sessions that are open among them, by bucket."""

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
        self._buckets = job.buckets_of(plan)
        self._calls: dict[str, Call] = {}
        self._early: dict[str, pb.MemberMessage] = {}
        self._left: set[str] = set()
        self._away: dict[str, asyncio.TimerHandle] = {}
        self._late: dict[str, str] = {}
        """What is not waited for any longer, by worker: it may still come, and breaks no rule."""
        self._sessions: dict[int, Opened] = {}

    # -- calls, as the service sees them --

    def join(self, worker: str, message: pb.MemberMessage | None = None) -> Call:
        """A worker that holds its result opens a call, with an advertisement or none; an older call of it ends."""
        if older := self._calls.get(worker):
            self.leave(worker, older)
            older.put_nowait(ProtocolError(f"{worker} has begun another call"))
        self._left.discard(worker)
        self._late.pop(worker, None)
        if away := self._away.pop(worker, None):
            away.cancel()
        if message is not None and message.ready.HasField("advertisement"):
            self._early[worker] = message
        call = self._calls[worker] = Call()
        return call

    def rejoin(self, worker: str, place: pb.Context) -> Call:
        """A member whose call was cut while its vector was on its way goes on with its session."""
        session = self._expecting(worker)
        session.check_place(worker, place)
        if not session.awaits_transfer(worker):
            raise ProtocolError(f"{worker} returns to a step that has no transfer, to which nobody can")
        call = self.join(worker)
        call.put_nowait(session.asked[worker])
        return call

    def leave(self, worker: str, call: Call) -> None:
        """A call has ended. While its vector is on its way a member may come back."""
        if self._calls.get(worker) is not call:
            return
        del self._calls[worker]
        self._early.pop(worker, None)
        session = self._session_of(worker)
        if session is not None and session.awaits_transfer(worker):
            loop = asyncio.get_running_loop()
            self._away[worker] = loop.call_later(RETURN_SECONDS, self._stayed_away, worker, session)
        else:
            self.lost(worker, GONE)

    def _stayed_away(self, worker: str, session: Opened) -> None:
        del self._away[worker]
        if self._session_of(worker) is session:
            self.lost(worker, GONE)

    def heard(self, worker: str, message: pb.MemberMessage) -> int:
        """A member says something; what the protocol does not allow ends its part. Gives the bytes of its vector."""
        late = self._late.pop(worker, None)
        if late is not None and message.WhichOneof("what") == late:
            log.info("late", worker=worker, what=late)
            return 0
        try:
            session = self._expecting(worker)
            session.check_place(worker, message.context)
            session.take(worker, message)
        except RoundError as error:
            self.refuse(worker, error)
            return 0
        session.answered(worker)
        return len(message.masked.data)

    def refuse(self, worker: str, error: RoundError) -> None:
        """A member says what it must not: it is out of the session, and its call ends with the reason."""
        log.warning("refused", reason=str(error))
        reason = refused(error)
        if session := self._session_of(worker):
            session.refused[worker] = reason
        self.lost(worker, reason)
        if call := self._calls.get(worker):
            call.put_nowait(error)

    def lost(self, worker: str, reason: str) -> None:
        """Nothing more will come from this worker."""
        if reason == LEFT:
            self._left.add(worker)
        session = self._session_of(worker)
        if session is not None and session.expects(worker):
            why = session.why(worker, reason)
            session.lost(worker, why)
            self._dropped(worker, why)

    def leave_out(self, worker: str, reason: str) -> None:
        """Say why this worker, who has handed in its part, is in no sum of the round."""
        self._dropped(worker, reason)

    def moved(self, worker: str) -> None:
        """A member's vector comes in."""
        session = self._session_of(worker)
        if session is not None and session.expects(worker):
            session.moved(worker)

    def expects(self, worker: str, place: pb.Context) -> Opened:
        """The session to which this member owes a vector; refuses one that is not due."""
        session = self._expecting(worker)
        session.check_place(worker, place)
        session.host.expects_vector(number(worker))
        return session

    def take(self, worker: str, spool: Spool, begun: Opened) -> asyncio.Task[None]:
        """A whole vector is folded into the sum that it was begun for; from here on the spool belongs to the fold."""
        session = self._expecting(worker)
        if session is not begun:
            raise ProtocolError(
                f"{worker} hands in a vector of {begun.host.context}, which it was asked for before; "
                f"the open session is {session.host.context}"
            )
        fold = session.fold(worker, spool)
        session.answered(worker)
        return fold

    def dismiss(self) -> None:
        """The attempt is over: every session and every call ends."""
        self._sessions.clear()
        for call in self._calls.values():
            call.put_nowait(None)

    # -- a session --

    async def sum(self, summand: Summand, context: Context, members: Sequence[str]) -> Sum:
        """Sum what these members hold; RoundError where that cannot be."""
        return await self.open(await self.collect(summand, context, members))

    async def collect(self, summand: Summand, context: Context, members: Sequence[str]) -> Opened:
        """Have these members hand in their masked vectors; nobody signs anything yet, so it may be given up.

        Where a sum of this round may have been signed before, its survivors alone are asked, and all must be there.
        """
        candidates = self.journal.candidates(context.round, context.purpose, context.bucket)
        survivors = self.journal.survivors(context.round, context.purpose, context.bucket)
        if lacking := set(survivors).difference(map(number, members)):
            raise ProtocolError(
                f"{context}: it may have been signed with {named(lacking)} before, not without"
            )
        joining = _alone(members, survivors or candidates)
        if context.purpose != "measure":
            for worker in sorted(set(members).difference(joining)):
                self.leave_out(worker, BEGUN)
        members = joining
        host = Host(context, self._trust, candidates=candidates)
        deadline = time.monotonic() + self._selection.deadline_seconds
        session = self._sessions[context.bucket] = Opened(host, summand.layout, deadline)
        try:
            early = self._advertised(context, members)
            await self._ask(session, dict.fromkeys(members, _opening(summand, context)), early=early)
            rosters = host.freeze()
            each = {id(one): one for one in rosters.values()}  # in cross-silo all are shown the same
            shown = {key: pb.HostMessage(roster=wire.roster_out(one)) for key, one in each.items()}
            await self._ask(session, {name(worker): shown[id(one)] for worker, one in rosters.items()})
            dealt = host.deal()
            place = (context.round, context.attempt, context.purpose)
            candidates = host.frozen.candidates
            await asyncio.to_thread(
                self.journal.dealing, *place, bucket=context.bucket, candidates=candidates
            )
            asked = {name(worker): _dealt(shares) for worker, shares in dealt.items()}
            await self._ask(session, asked, stall=self._selection.stall_seconds)
            _check_same(host, survivors)
        except BaseException:
            self._forget(session)
            raise
        return session

    async def open(self, session: Opened) -> Sum:
        """Have the members agree on whose vectors are in the sum, and give what takes the masks off it.

        There is a deadline of its own for that: other buckets' sessions may have taken long to come as far as this one.
        """
        session.deadline = time.monotonic() + self._selection.deadline_seconds
        host, context = session.host, session.host.context
        place = (context.round, context.attempt, context.purpose)
        try:
            await asyncio.to_thread(
                self.journal.signing, *place, bucket=context.bucket, survivors=host.survivors
            )
            listed = pb.HostMessage(survivors=pb.Survivors(workers=host.survivors))
            survivors = tuple(map(name, host.survivors))
            await self._ask(session, dict.fromkeys(survivors, listed), enough=lambda: host.agreed)
            asked = {name(worker): _agreement(proof) for worker, proof in host.agree().items()}
            await self._unmasking(context)
            await self._ask(session, asked, enough=lambda: host.recoverable)
            await session.folded()
            recovery = await asyncio.to_thread(host.open, session.total, session.layout)
        finally:
            self._forget(session)
        if recovery.liars:
            log.warning("wrong shares", workers=[name(worker) for worker in sorted(recovery.liars)])
        if pairs := sorted(recovery.unexplained)[:SHOWN]:
            disputed = [f"{name(dealer)} to {name(holder)}" for dealer, holder in pairs]
            log.warning("shares that whoever dealt them or whoever held them has spoilt", shares=disputed)
        return Sum(session.total, survivors)

    async def _ask(
        self,
        session: Opened,
        messages: Mapping[str, pb.HostMessage],
        *,
        early: Mapping[str, pb.MemberMessage] = MappingProxyType({}),
        stall: float = STEP_SECONDS,
        enough: Callable[[], bool] = lambda: False,
    ) -> None:
        """Tell each of these something, and wait until all have answered or are out; a little once `enough` have.

        Those of whom an `early` answer is there are told nothing.
        """
        here = [worker for worker in messages if worker in self._calls]
        for worker in sorted(set(messages).difference(here)):
            self._dropped(worker, session.why(worker, LEFT if worker in self._left else GONE))
        session.enough, session.asked = enough, messages
        due = session.due = Gathering(
            cohort=frozenset(here),
            enough=len(here),
            minimum=0,
            stall=stall,
            deadline=session.deadline,
            moved=dict.fromkeys(here, time.monotonic()),
        )
        for worker in here:
            if worker not in early:
                self._calls[worker].put_nowait(messages[worker])
        for worker, answer in early.items():
            if session.expects(worker):
                self.heard(worker, answer)
                await asyncio.sleep(0)
        patience = session.deadline
        while True:
            session.news.clear()
            due.pass_time(time.monotonic())
            if due.over or time.monotonic() >= patience:
                break
            if enough():
                patience = min(patience, time.monotonic() + GRACE_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(_loop_time(min(due.wake(), patience))):
                    await session.news.wait()
        self._wait_no_longer(due, messages)

    def _wait_no_longer(self, due: Gathering, messages: Mapping[str, pb.HostMessage]) -> None:
        """Tell who was given up; an answer that changes no sum may still come."""
        for worker in (*due.missing, *due.dropped):
            if (what := LATE.get(str(messages[worker].WhichOneof("what")))) is not None:
                self._late[worker] = what
        for worker, reason in due.dropped.items():
            self._dropped(worker, reason)

    def _advertised(self, context: Context, members: Collection[str]) -> dict[str, pb.MemberMessage]:
        """What those of these have advertised who expected this very sum; what anybody expected counts for no other."""
        found = {}
        for worker in sorted(members):
            said = self._early.pop(worker, None)
            if said is not None and said.ready.context == context.digest:
                found[worker] = pb.MemberMessage(context=said.context, advertisement=said.ready.advertisement)
        return found

    def _session_of(self, worker: str) -> Opened | None:
        """The session that is open in this worker's bucket."""
        return self._sessions.get(self._buckets.of(number(worker)))

    def _expecting(self, worker: str) -> Opened:
        session = self._session_of(worker)
        if session is None or not session.expects(worker):
            raise ProtocolError(f"nothing (more) is expected of {worker} in this step")
        return session

    def _forget(self, session: Opened) -> None:
        bucket = session.host.context.bucket
        if self._sessions.get(bucket) is session:
            del self._sessions[bucket]


@dataclass(frozen=True, slots=True)
class Sum:
    """What an opened session gives: the plain sum, and whose vectors are in it."""

    total: Vector
    members: tuple[str, ...]


def _alone(members: Sequence[str], begun: Collection[int]) -> Sequence[str]:
    """The members without those who are none of a sum that has begun: they cannot join it, and do nothing wrong."""
    if not begun or not (others := [worker for worker in members if number(worker) not in begun]):
        return members
    log.info("left out, for the sum was begun without them", workers=others)
    return [worker for worker in members if worker not in others]


def _check_same(host: Host, before: Sequence[int]) -> None:
    """Close the uploads; refuse other survivors than those for whom this sum may have been signed."""
    found = host.close()
    if before and found != tuple(before):
        raise ProtocolError(
            f"{host.context}: no vectors of {named(set(before).difference(found))}, with which this sum may have been "
            "signed before"
        )


def _loop_time(moment: float) -> float:
    """The event loop's time at this moment of the monotonic clock."""
    return asyncio.get_running_loop().time() + moment - time.monotonic()


def _opening(summand: Summand, context: Context) -> pb.HostMessage:
    opening = pb.Opening(purpose=context.purpose, bucket=context.bucket)
    if isinstance(summand, UpdateSum):
        opening.exponents[:] = summand.exponents
        opening.uncounted = not summand.counted
    if isinstance(summand, UpdateSum | MeasureSum):
        opening.schema = summand.schema.text
    return pb.HostMessage(opening=opening)


def _dealt(shares: Shares) -> pb.HostMessage:
    return pb.HostMessage(dealt=pb.SealedShares(shares=dict(shares)))


def _agreement(proof: Agreement) -> pb.HostMessage:
    return pb.HostMessage(agreement=pb.Agreement(signatures=dict(proof.signatures)))
