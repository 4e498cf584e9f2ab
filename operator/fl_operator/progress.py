"""What the servers of running jobs say: one stream each, from which rounds come in, and one wish that goes out.

It is the leader's alone. A server that is silent costs nothing but its news: the stream is dialled again, ever
more patiently, until the job is over.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import grpc
import structlog

from fl_core.errors import FLJobError
from fl_core.identity import Authority, Identity
from fl_core.plan import Plan
from fl_core.wire.channels import dial
from fl_operator.cluster.resources import Key
from fl_operator.pace import FullJitter
from fl_operator.status import Report
from job_generator import names
from job_generator.local.observer import Observation, Observer

log = structlog.get_logger()

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 15.0
"""Seconds before a server that does not answer is dialled again."""

Changed = Callable[[Key], None]
Address = Callable[[Plan], str]


def in_cluster(plan: Plan) -> str:
    """Where a job's server is dialled from within the cluster."""
    return names.address(plan.job, "server")


@dataclass(slots=True)
class _Stream:
    """One job's server."""

    key: Key
    plan: Plan
    task: asyncio.Task[None] | None = None
    observer: Observer | None = None
    report: Report | None = None


@dataclass(slots=True)
class Progress:
    """The streams by the uid of their job; `changed` is called with each piece of news."""

    authority: Authority
    changed: Changed
    address: Address = in_cluster
    _streams: dict[str, _Stream] = field(default_factory=dict)

    def follow(self, key: Key, plan: Plan) -> None:
        """Listen to a job's server from now on."""
        if plan.job.uid not in self._streams:
            stream = self._streams[plan.job.uid] = _Stream(key, plan)
            stream.task = asyncio.create_task(self._listen(stream), name=f"progress {key}")

    def report(self, uid: str) -> Report | None:
        """What a job's server last said."""
        stream = self._streams.get(uid)
        return stream.report if stream is not None else None

    async def forget(self, uid: str) -> None:
        """Listen no more."""
        stream = self._streams.pop(uid, None)
        if stream is not None and stream.task is not None:
            stream.task.cancel()
            await asyncio.wait({stream.task})

    async def finish(self, uid: str) -> None:
        """Ask a job's server to end with the open round; raises UnavailableError where it does not answer."""
        stream = self._streams.get(uid)
        if stream is not None and stream.observer is not None:
            await stream.observer.finish()

    async def run(self) -> None:
        """Listen until cancelled, then to nobody."""
        try:
            await asyncio.Event().wait()
        finally:
            for uid in list(self._streams):
                await self.forget(uid)

    async def _listen(self, stream: _Stream) -> None:
        patience = FullJitter(random.Random(), first=FIRST_PAUSE, most=LONGEST_PAUSE)  # noqa: S311 - spreads load
        own = self.authority.issue(Identity(stream.plan.job.uid, "observer"))
        async with dial(self.address(stream.plan), own, peer="server") as channel:
            stream.observer = Observer(channel, stream.plan.job.uid, stream.plan.digest)
            while True:
                try:
                    async for observation in stream.observer.observations():
                        patience.reset()
                        self._heard(stream, observation)
                except (FLJobError, grpc.aio.AioRpcError) as error:
                    log.debug("a server is silent", job=str(stream.key), reason=str(error))
                await asyncio.sleep(patience.next())

    def _heard(self, stream: _Stream, observation: Observation) -> None:
        first = stream.report is None
        before, moment = stream.report or Report(standing=observation.standing), dt.datetime.now(dt.UTC)
        now = before.standing_at(observation.standing, moment)
        if observation.closed:
            measured = [closed for closed in observation.closed if closed.metrics]
            now = replace(
                now,
                closed=observation.closed[-1],
                closed_at=moment,
                evaluated=measured[-1] if measured else before.evaluated,
            )
        stream.report = now
        moved = before.standing.round != now.standing.round or before.at_work != now.at_work
        if first or observation.closed or moved:
            self.changed(stream.key)
