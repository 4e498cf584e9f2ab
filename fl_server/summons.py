"""The server's calls to the scheduler: one open call for workers at a time, and the end of the job."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

import grpc
import structlog

from fl_core.plan import Plan
from fl_core.roster import Purpose
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import fl_pb2_grpc
from fl_core.wire.guard import context_of
from fl_server.model import Model

log = structlog.get_logger()


class Listener(Protocol):
    """Who wants to know what the scheduler tells."""

    model: Model | None

    def chosen(self, cohort: pb.Cohort, purpose: str) -> None:
        """The cohort is named."""

    def lost(self, worker: str, reason: str) -> None:
        """A worker of the cohort is gone."""

    def moved(self, worker: str) -> None:
        """A worker of the cohort moves."""

    def waiting(self, live: int) -> None:
        """There are not enough workers yet."""


class Summons:
    """At most one open call; starting another or `end` closes it."""

    def __init__(self, plan: Plan, channel: grpc.aio.Channel) -> None:
        self._plan = plan
        self._stub = fl_pb2_grpc.SchedulerStub(channel)
        self._task: asyncio.Task[None] | None = None

    def start(
        self,
        purpose: Purpose,
        place: tuple[int, int],
        listener: Listener,
        *,
        workers: tuple[str, ...] = (),
    ) -> None:
        """Call for workers for (round, attempt); what happens to them is told to the listener."""
        request = pb.Convening(context=context_of(self._plan, round=place[0], attempt=place[1]))
        if listener.model is not None:
            request.model, request.manifest = listener.model.digest, listener.model.manifest.digest
        if purpose == "evaluate":
            request.evaluate.workers.extend(workers)
        else:
            getattr(request, purpose).SetInParent()
        self._task = asyncio.create_task(self._follow(request, listener, purpose))

    async def end(self) -> None:
        """Close the open call: those that were asked are released."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def dismiss(self, reason: str) -> None:
        """The job is over: all workers may go."""
        await self.end()
        await self._stub.Dismiss(pb.Dismissal(context=context_of(self._plan), reason=reason))

    async def _follow(self, request: pb.Convening, listener: Listener, purpose: Purpose) -> None:
        async for event in self._stub.Convene(request, wait_for_ready=True):
            match event.WhichOneof("what"):
                case "cohort":
                    listener.chosen(event.cohort, purpose)
                case "lost":
                    listener.lost(event.lost.worker, event.lost.reason)
                case "moved":
                    listener.moved(event.moved.worker)
                case "waiting":
                    listener.waiting(event.waiting.live)
