"""The first model: one worker is asked for its initial weights, and another where that one fails.

A job that begins with a file asks too: the worker's arrays tell whether the file fits, and in which order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fl_core.errors import FLJobError, ShortfallError, UpdateError
from fl_core.plan import Plan
from fl_core.weights import Manifest
from fl_core.wire import fl_pb2 as pb
from fl_server.model import Model
from fl_server.origin import Origin, Start
from fl_server.summons import Listener, Summons


class FirstModel:
    """What is asked of whom, one worker at a time; `origin` is the file of a job that begins with one."""

    def __init__(self, plan: Plan, summons: Summons) -> None:
        self.origin: Origin | None = None
        self._plan = plan
        self._summons = summons
        self._answer: asyncio.Future[Model | str] | None = None
        self._failure: FLJobError | None = None
        self._cohort = pb.Cohort()

    @property
    def is_wanted(self) -> bool:
        """Whether an answer is waited for."""
        return self._answer is not None and not self._answer.done()

    async def start(self, listener: Listener, *, begun: Callable[[], None]) -> Start:
        """Where the job begins; `begun` is called before each worker is asked. Raises what ends the job."""
        if self.origin is not None:
            await asyncio.to_thread(self.origin.check)
        given = await self._ask(listener, begun)
        return await asyncio.to_thread(self.origin.start, given) if self.origin else Start(given)

    async def _ask(self, listener: Listener, begun: Callable[[], None]) -> Model:
        """Have a worker hand in its initial weights; where one fails to, another is asked, each once at most."""
        reason = ""
        for attempt in range(1, self._plan.workers + 1):
            if self._failure is not None:
                raise self._failure
            self._answer = asyncio.get_running_loop().create_future()
            begun()
            self._summons.start("initialise", (0, attempt), listener)
            given = await self._answer
            await self._summons.end()
            if isinstance(given, Model):
                return given
            reason = given
        raise ShortfallError(f"no worker handed in initial weights; the last one: {reason}")

    def asked(self, cohort: pb.Cohort) -> None:
        """The scheduler has named the worker, which has its time from now on."""
        self._cohort = cohort
        loop = asyncio.get_running_loop()
        deadline = self._plan.selection.deadline_seconds
        loop.call_later(deadline, self._give_up, self._answer, f"{cohort.workers[0]}: deadline")

    def check(self, transfer: pb.Transfer, worker: str) -> None:
        """Refuse initial weights that nobody asked for, or of other arrays than the worker enrolled with."""
        if not self.is_wanted or worker not in self._cohort.workers:
            raise UpdateError(f"{worker} was not asked for initial weights")
        if Manifest.from_json(transfer.manifest).digest != self._cohort.manifest:
            raise UpdateError(f"{worker} hands in other arrays than it enrolled with")

    def take(self, model: Model) -> None:
        """The weights have come; refuses others than those the worker enrolled with."""
        if model.digest != self._cohort.weights:
            raise UpdateError(
                f"{self._cohort.workers[0]} hands in other initial weights than it enrolled with"
            )
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(model)

    def lost(self, worker: str, reason: str) -> None:
        """The worker is gone."""
        self._give_up(self._answer, f"{worker}: {reason}")

    def failed(self, error: FLJobError) -> None:
        """Nobody can be asked any more, whoever may just have been."""
        self._failure = error
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    @staticmethod
    def _give_up(answer: asyncio.Future[Model | str] | None, reason: str) -> None:
        if answer is not None and not answer.done():
            answer.set_result(reason)
