"""The server's calls to the scheduler: one open `Convene` at a time, called again when it breaks off."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection
from typing import Literal, Protocol

import grpc
import structlog

from fl_core.errors import FencedError, FLJobError, JobError, MismatchError, UnavailableError
from fl_core.plan import Plan
from fl_core.steps import reached
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import fl_pb2_grpc
from fl_core.wire.guard import FENCED, context_of
from fl_server.model import Model

log = structlog.get_logger()

Purpose = Literal["initialise", "train", "evaluate"]

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0
"""Seconds between two calls to a scheduler that does not answer; doubled from the first to the longest."""

DISMISS_SECONDS = 5.0
"""How long the scheduler may take to hear that the job is over."""

PERMANENT = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.PERMISSION_DENIED)


class Listener(Protocol):
    """Who wants to know what the scheduler tells."""

    model: Model | None

    def missing(self) -> list[str]:
        """Of whom the open call still expects something."""

    def chosen(self, cohort: pb.Cohort, purpose: Purpose) -> None:
        """The cohort is named."""

    def lost(self, worker: str, reason: str, *, live: int = 0) -> None:
        """A worker of the cohort is gone; so many could be chosen now."""

    def moved(self, worker: str) -> None:
        """A worker of the cohort moves."""

    def waiting(self, waiting: pb.Waiting) -> None:
        """There are not enough workers yet."""

    def failed(self, error: FLJobError) -> None:
        """No cohort will be named any more."""


class Summons:
    """At most one open call; starting another or `end` closes it. `answering` tells whether the scheduler is heard.

    `epoch` is that of this server's claim to the storage: a scheduler that has heard a newer one refuses the call.
    """

    def __init__(self, plan: Plan, channel: grpc.aio.Channel, *, epoch: int) -> None:
        self._plan = plan
        self._epoch = epoch
        self._stub = fl_pb2_grpc.SchedulerStub(channel)
        self._task: asyncio.Task[None] | None = None
        self._chosen = False
        self.answering = False

    def start(
        self,
        purpose: Purpose,
        place: tuple[int, int],
        listener: Listener,
        *,
        draw: int = 1,
        only: Collection[str] = (),
    ) -> None:
        """Call for workers for (round, attempt); what happens to them is told to the listener.

        An evaluation is of those who are missing; so is a call for training that is repeated. Where there are any of
        whom `only` may train, all of them are waited for a while.
        """
        context = context_of(self._plan, round=place[0], attempt=place[1])
        request = pb.Convening(context=context, epoch=self._epoch, draw=draw)
        if listener.model is not None:
            request.model, request.manifest = listener.model.digest, listener.model.manifest.digest
        getattr(request, purpose).SetInParent()
        request.only.workers[:] = sorted(only)
        self._chosen = False
        if purpose == "train":
            reached("open", place[0])
        self._task = asyncio.create_task(self._follow(request, listener, purpose))

    async def end(self) -> None:
        """Close the open call: those that were asked are released."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def dismiss(self, reason: str) -> None:
        """The job is over: all workers may go; a scheduler that is gone has none to tell."""
        await self.end()
        request = pb.Dismissal(context=context_of(self._plan), reason=reason, epoch=self._epoch)
        try:
            await self._stub.Dismiss(request, timeout=DISMISS_SECONDS)
        except grpc.aio.AioRpcError as error:
            log.warning("the scheduler was not told that the job is over", reason=error.details())

    async def _follow(self, request: pb.Convening, listener: Listener, purpose: Purpose) -> None:
        """Call until the call is ended from here; give up a scheduler that is silent for `ready_seconds`."""
        pause, heard = FIRST_PAUSE, time.monotonic()
        while True:
            if purpose == "evaluate":
                request.evaluate.workers[:] = listener.missing()
            elif purpose == "train" and self._chosen:
                request.rejoin.workers[:] = listener.missing()
                request.rejoin.SetInParent()
            reason, contact = "it ended the call", False
            try:
                async for event in self._stub.Convene(request):
                    pause, contact, self.answering = FIRST_PAUSE, True, True
                    self._tell(event, listener, purpose)
            except grpc.aio.AioRpcError as error:
                reason, self.answering = error.details() or error.code().name, False
                if error.code() in PERMANENT:
                    listener.failed(MismatchError(f"the scheduler refuses this server: {reason}"))
                    return
                if error.code() == FENCED:
                    listener.failed(FencedError(reason))
                    return
            heard = time.monotonic() if contact else heard
            if time.monotonic() - heard > self._plan.ready_seconds:
                listener.failed(
                    UnavailableError(
                        f"the scheduler has been silent for {self._plan.ready_seconds:g} s "
                        f"(spec.preRunningDeadlineSeconds): {reason}; start it again, then this server"
                    )
                )
                return
            log.warning("the scheduler does not answer", reason=reason, again_in=pause)
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - jitter
            pause = min(2 * pause, LONGEST_PAUSE)

    def _tell(self, event: pb.CohortEvent, listener: Listener, purpose: Purpose) -> None:
        match event.WhichOneof("what"):
            case "cohort":
                self._chosen = True
                listener.chosen(event.cohort, purpose)
            case "lost":
                listener.lost(event.lost.worker, event.lost.reason, live=event.lost.live)
            case "moved":
                listener.moved(event.moved.worker)
            case "waiting":
                listener.waiting(event.waiting)
            case "failure":
                listener.failed(JobError(event.failure))
