"""Waiting for the first workers: a job whose quorum never comes fails, and says who is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fl_core.errors import FLJobError
from fl_core.plan import Plan
from fl_core.wire import fl_pb2 as pb
from fl_server.sentences import too_few


class Muster:
    """Calls `failed` when the quorum is not there in time, counted while the scheduler `is_waiting` for it."""

    def __init__(
        self, plan: Plan, *, is_waiting: Callable[[], bool], failed: Callable[[FLJobError], None]
    ) -> None:
        self._plan = plan
        self._is_waiting = is_waiting
        self._failed = failed
        self._timer: asyncio.TimerHandle | None = None
        self._last = pb.Waiting()

    def begin(self) -> None:
        """The job's time to get ready begins."""
        self._timer = asyncio.get_running_loop().call_later(self._plan.ready_seconds, self._late)

    def heard(self, waiting: pb.Waiting) -> None:
        """The scheduler waits for more workers."""
        self._last = waiting

    def over(self) -> None:
        """The workers have come, or the job is over."""
        if self._timer is not None:
            self._timer.cancel()

    def _late(self) -> None:
        """Fail for want of workers; a silent scheduler is the summons' to report, late joiners may come."""
        live = self._last.live
        if not self._is_waiting() or live >= self._plan.selection.minimum:
            self.begin()
        else:
            self._failed(too_few(self._plan, live, absent=self._last.absent))
