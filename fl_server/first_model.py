"""The first model: one worker is asked for its initial weights, and another where that one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fl_core.errors import FLJobError, ShortfallError, UpdateError
from fl_core.weights import Manifest
from fl_core.wire import fl_pb2 as pb
from fl_server.model import Model


class FirstModel:
    """What is asked of whom; each `ask` waits for one answer."""

    def __init__(self, *, deadline: float) -> None:
        self._deadline = deadline
        self._answer: asyncio.Future[Model | str] | None = None
        self._cohort = pb.Cohort()

    @property
    def is_wanted(self) -> bool:
        """Whether an answer is waited for."""
        return self._answer is not None and not self._answer.done()

    async def ask(
        self, *, begin: Callable[[int], None], end: Callable[[], Awaitable[None]], most: int
    ) -> Model:
        """Have a worker hand in its initial weights; where one fails to, another is asked, `most` in all.

        Raises what ends the job.
        """
        reason = ""
        for attempt in range(1, most + 1):
            self._answer = asyncio.get_running_loop().create_future()
            begin(attempt)
            given = await self._answer
            await end()
            if isinstance(given, Model):
                return given
            reason = given
        raise ShortfallError(f"no worker handed in initial weights; the last one: {reason}")

    def asked(self, cohort: pb.Cohort) -> None:
        """The scheduler has named the worker, which has its time from now on."""
        self._cohort = cohort
        loop = asyncio.get_running_loop()
        loop.call_later(self._deadline, self._give_up, self._answer, f"{cohort.workers[0]}: deadline")

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
        """Nobody can be asked any more."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    @staticmethod
    def _give_up(answer: asyncio.Future[Model | str] | None, reason: str) -> None:
        if answer is not None and not answer.done():
            answer.set_result(reason)
