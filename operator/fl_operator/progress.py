"""What the servers of running jobs say: one stream each, from which rounds come in, and one wish that goes out.

It is the leader's alone. A server that is silent costs next to nothing: until its port can be reached there is no
channel, only a knock after ever longer pauses, and one at once when its process is another one.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import grpc
import structlog

from fl_core.errors import FLJobError, UnavailableError
from fl_core.identity import Authority, Identity
from fl_core.plan import Plan
from fl_core.wire.channels import dial
from fl_operator.actions import Note
from fl_operator.cluster.resources import Key
from fl_operator.findings import Listener
from fl_operator.losses import losses_in
from fl_operator.pace import FullJitter
from fl_operator.status import Report
from job_generator.local.observer import Observation, Observer
from job_generator.local.record import ClosedRound, latest
from job_generator.local.rounds import went_back

log = structlog.get_logger()

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 60.0
"""Seconds before a server that does not answer is tried again; its pod tells when that is worth it sooner."""
KNOCK_SECONDS = 5.0
"""So long may its port take to open; where packets are dropped nobody ever says no."""
ANSWER_SECONDS = 10.0
"""So long may its first word take, from a port that is open."""
MOST_NOTES = 25
"""Of one job, until they are taken; the newest stay."""

Changed = Callable[[Key], None]


@dataclass(slots=True)
class _Stream:
    """One job's server."""

    key: Key
    plan: Plan
    server: Listener | None = None
    task: asyncio.Task[None] | None = None
    observer: Observer | None = None
    """While it speaks."""
    report: Report | None = None
    silent_since: dt.datetime | None = None
    """None while it speaks."""
    behind: bool = True
    """Until all has come in that its server knew when it began to speak, which may be in several pieces."""
    caught_up: bool = False
    """Whether all that a server knew has come in once."""
    told: int = 0
    """The last round whose losses are among the notes, or were before."""
    line: int = 0
    """The last line of the record that was heard."""
    notes: list[Note] = field(default_factory=list)


@dataclass(slots=True)
class Progress:
    """The streams by the uid of their job; `changed` is called with each piece of news."""

    authority: Authority
    changed: Changed
    random: random.Random = field(default_factory=random.Random)
    _streams: dict[str, _Stream] = field(default_factory=dict)

    def follow(self, key: Key, plan: Plan, server: Listener, *, told: int = 0) -> None:
        """Listen from now on to this process as the job's server; to another one than before, at once.

        That one is silent only from then on, however long nobody was there. Of rounds up to `told` an earlier
        operator has spoken.
        """
        stream = self._streams.setdefault(plan.job.uid, _Stream(key, plan, told=told))
        if stream.server == server and stream.task is not None and not stream.task.done():
            return
        if stream.task is not None:
            stream.task.cancel()
        if stream.server != server or stream.silent_since is None:
            stream.silent_since = dt.datetime.now(dt.UTC)
        stream.server = server
        stream.task = asyncio.create_task(self._listen(stream, server), name=f"progress {key}")

    def report(self, uid: str) -> Report | None:
        """What a job's server last said."""
        stream = self._streams.get(uid)
        return stream.report if stream is not None else None

    def silent_since(self, uid: str) -> dt.datetime | None:
        """Since when the process to which this operator listens has said nothing; None while it speaks."""
        stream = self._streams.get(uid)
        return stream.silent_since if stream is not None else None

    def notes(self, uid: str) -> list[Note]:
        """What is new of the losses in a job's rounds; each note once."""
        stream = self._streams.get(uid)
        if stream is None:
            return []
        fresh, stream.notes = stream.notes, []
        return fresh

    async def forget(self, uid: str) -> None:
        """Listen no more."""
        stream = self._streams.pop(uid, None)
        if stream is not None and stream.task is not None:
            stream.task.cancel()
            await asyncio.wait({stream.task})

    async def finish(self, uid: str, *, last: int) -> None:
        """Ask a job's server to end with this round, or the open one where that is later.

        Raises UnavailableError where it does not answer.
        """
        stream = self._streams.get(uid)
        if stream is None or stream.observer is None:
            raise UnavailableError("the job's server does not answer")
        await stream.observer.finish(last=last)

    async def run(self) -> None:
        """Listen until cancelled, then to nobody."""
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.gather(*map(self.forget, list(self._streams)))

    async def _listen(self, stream: _Stream, server: Listener) -> None:
        patience = FullJitter(self.random, first=FIRST_PAUSE, most=LONGEST_PAUSE)
        while True:
            try:
                await _knock(server)
                await self._hear(stream, server, patience)
            except (FLJobError, grpc.aio.AioRpcError, OSError) as error:
                log.debug("a server is silent", job=str(stream.key), reason=str(error))
            if stream.silent_since is None:
                stream.silent_since = dt.datetime.now(dt.UTC)
                self.changed(stream.key)
            await asyncio.sleep(patience.next())

    async def _hear(self, stream: _Stream, server: Listener, patience: FullJitter) -> None:
        """Take in what a server says, until it goes.

        The channel ends with this frame: its `close` looks at every task there is, seconds for a thousand streams.
        """
        own = self.authority.issue(Identity(stream.plan.job.uid, "observer"))
        channel = dial(server.address, own, peer="server")
        observer = Observer(channel, stream.plan.job.uid, stream.plan.digest)
        try:
            async with asyncio.timeout(ANSWER_SECONDS) as limit:
                async for observation in observer.observations():
                    limit.reschedule(None)
                    stream.observer = observer
                    patience.reset()
                    self._heard(stream, observation)
        finally:
            if stream.observer is observer:
                stream.observer = None

    def _heard(self, stream: _Stream, observation: Observation) -> None:
        first, stream.silent_since = stream.silent_since is not None, None
        old = first or stream.behind
        before, moment = stream.report or Report(standing=observation.standing), dt.datetime.now(dt.UTC)
        now = before.standing_at(observation.standing, moment)
        if observation.closed:
            self._note(stream, observation.closed)
            over = latest((*filter(None, (before.evaluated, before.closed)), *observation.closed))
            measured = [closed for closed in over if closed.metrics]
            now = replace(
                now,
                closed=over[-1] if over else None,
                closed_at=before.closed_at if old else moment,
                evaluated=measured[-1] if measured else None,
            )
        stream.report = now
        stream.behind = old and observation.more
        stream.caught_up |= not stream.behind
        moved = before.standing.round != now.standing.round or before.at_work != now.at_work
        if first or observation.closed or moved:
            self.changed(stream.key)

    def _note(self, stream: _Stream, rounds: Sequence[ClosedRound]) -> None:
        """Keep the losses of rounds that were not told yet: a server begins with all that it knows of.

        One that went back to an older checkpoint makes the later rounds again, so that they are to be told again.
        That it did is told by who has heard it before: an operator that comes later cannot know whether it was told.
        """
        for closed in rounds:
            if 0 < closed.line <= stream.line:
                continue
            stream.line = closed.line
            if closed.restored:
                stream.told = min(stream.told, closed.round)
                stream.notes += [Note("WentBack", went_back(closed), "Warning")] if stream.caught_up else []
            elif closed.round > stream.told:
                stream.told = closed.round
                stream.notes += losses_in(closed, stream.plan)
        del stream.notes[:-MOST_NOTES]


async def _knock(server: Listener) -> None:
    """See whether anybody listens; a channel that waits for an answer takes 100 KiB and ten times the work."""
    async with asyncio.timeout(KNOCK_SECONDS):
        _, writer = await asyncio.open_connection(server.host, server.port)
    writer.close()
