"""Keeping the processes of a run alive, and ending them together.

They start by announcement: the scheduler, then the server, then the workers. A worker that crashes is
started again; one that ends for good is missed, and the run ends when the quorum is lost. The run also
ends with the server or the scheduler. Nothing polls.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from fl_core.errors import TERMINATED_EXIT_CODE, ShortfallError
from job_generator.local.child import Child, Command, DiedError, Outcome

FIRST_DELAY = 0.5
LONGEST_DELAY = 15.0


class Commands(Protocol):
    """The command lines of a job's processes."""

    def scheduler(self) -> Command:
        """Give the scheduler's."""

    def server(self, scheduler: str) -> Command:
        """Give the server's, which dials the scheduler."""

    def worker(self, index: int, *, scheduler: str, server: str) -> Command:
        """Give one worker's, which dials both."""


@dataclass(frozen=True, slots=True)
class Staffing:
    """How many workers there are, how few suffice, how often each may be restarted; seconds to get ready."""

    workers: int
    quorum: int
    restarts: int
    ready_seconds: float = 900.0


@dataclass(frozen=True, slots=True)
class Graces:
    """Seconds that processes have to end by themselves once the job is over, and after SIGTERM."""

    end: float = 20.0
    stop: float = 5.0


@dataclass(frozen=True, slots=True)
class Reports:
    """Whom the supervisor tells what happens: a sentence for the user; a process with its number."""

    tell: Callable[[str], None]
    started: Callable[[str, int], None]


class Supervisor:
    """The processes of one run; leaving the context ends them all."""

    def __init__(
        self,
        commands: Commands,
        staffing: Staffing,
        *,
        logs: Path,
        reports: Reports,
        graces: Graces = Graces(),
    ) -> None:
        self._commands = commands
        self._staffing = staffing
        self._logs = logs
        self._graces = graces
        self._reports = reports
        self._children: dict[str, Child] = {}
        self._lost: list[Outcome] = []
        self._keepers: list[asyncio.Task[Outcome | None]] = []
        self._stop: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._environment = process_environment(os.environ, processes=staffing.workers)
        self._scheduler = self._server = ""
        self._over = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        children = list(self._children.values())
        if self._over:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._graces.end):
                    await asyncio.gather(*(child.wait() for child in children))
        await asyncio.gather(*(child.stop(grace=self._graces.stop) for child in children))

    async def start(self) -> str:
        """Start everything; returns the server's address once it listens."""
        self._scheduler = await self._listen("scheduler", self._commands.scheduler())
        self._server = await self._listen("server", self._commands.server(self._scheduler))
        self._keepers = [asyncio.create_task(self._keep(index)) for index in range(self._staffing.workers)]
        return self._server

    async def ended(self) -> Outcome:
        """How the run ended, and through whom."""
        ends = [
            asyncio.create_task(end())
            for end in (self._server_end, self._scheduler_end, self._workers_end, self._stopped)
        ]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            outcome = next(end.result() for end in ends if end.done())
        finally:
            for end in ends:
                end.cancel()
        self._over = outcome.exit_code == 0
        return outcome

    def stop_now(self, exit_code: int = TERMINATED_EXIT_CODE) -> None:
        """End the run without waiting for its round."""
        if not self._stop.done():
            self._stop.set_result(Outcome(exit_code, "", "stopped before the end"))

    async def _listen(self, name: str, command: Command) -> str:
        others = list(self._children.values())
        child = await self._spawn(name, command)
        announced = asyncio.create_task(child.announced())
        deaths = [asyncio.create_task(other.wait()) for other in others]
        waited = self._staffing.ready_seconds
        ends: list[asyncio.Future[Any]] = [self._stop, announced, *deaths]
        await asyncio.wait(ends, timeout=waited, return_when=asyncio.FIRST_COMPLETED)
        if announced.done():
            return announced.result().address
        for task in (announced, *deaths):
            task.cancel()
        if self._stop.done():
            raise DiedError(self._stop.result())
        dead = next((other.outcome() for other in others if other.over), None)
        raise DiedError(dead or Outcome(75, name, f"it did not listen within {waited:.0f} seconds"))

    async def _spawn(self, name: str, command: Command) -> Child:
        log = self._logs / f"{name}.log"
        self._children[name] = await Child.spawn(name, command, log=log, environment=self._environment)
        self._reports.started(name, self._children[name].pid)
        return self._children[name]

    async def _keep(self, index: int) -> Outcome | None:
        """Run one worker to its end; what went wrong, when it is lost for good."""
        name = f"worker-{index}"
        for restart in range(self._staffing.restarts + 1):
            command = self._commands.worker(index, scheduler=self._scheduler, server=self._server)
            child = await self._spawn(name, command)
            if await child.wait() == 0:
                return None
            outcome = child.outcome()
            if outcome.permanent or restart == self._staffing.restarts:
                return outcome
            delay = restart_delay(restart)
            self._reports.tell(f"{name} crashed ({outcome.sentence}); it starts again in {delay:.1f} s")
            await asyncio.sleep(delay)
        return None

    async def _server_end(self) -> Outcome:
        server = self._children["server"]
        code = await server.wait()
        if code == 0:
            return Outcome(0)
        outcome = server.outcome()
        if code == ShortfallError.exit_code and self._lost:
            first = self._lost[0]
            return replace(
                outcome, sentence=f"{outcome.sentence} (first lost: {first.culprit}, {first.sentence})"
            )
        return outcome

    async def _scheduler_end(self) -> Outcome:
        scheduler = self._children["scheduler"]
        if await scheduler.wait() == 0:
            return await self._server_end()
        return scheduler.outcome()

    async def _workers_end(self) -> Outcome:
        staffing = self._staffing
        for end in asyncio.as_completed(self._keepers):
            outcome = await end
            if outcome is None:
                continue
            self._lost.append(outcome)
            left = staffing.workers - len(self._lost)
            if left < staffing.quorum:
                return self._blame(outcome)
            self._reports.tell(
                f"{outcome.culprit} is out: {outcome.sentence.rstrip('.')}. "
                f"The job goes on with {left} of {staffing.workers} workers."
            )
        return await self._server_end()

    async def _stopped(self) -> Outcome:
        return await asyncio.shield(self._stop)

    def _blame(self, outcome: Outcome) -> Outcome:
        """Name the worker that was lost first as the cause: the others mostly say the same."""
        if not self._lost:
            return outcome
        first, count = self._lost[0], len(self._lost)
        others = f" ({count} of {self._staffing.workers} workers were lost, too many)" if count > 1 else ""
        return replace(first, sentence=first.sentence + others)


def restart_delay(restart: int) -> float:
    """Seconds before a worker's next start: doubling, and bounded."""
    return min(FIRST_DELAY * 2.0**restart, LONGEST_DELAY)


def process_environment(environment: Mapping[str, str], *, processes: int) -> dict[str, str]:
    """Inherit everything, with the machine's cores shared out where the user did not do so."""
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    shared = {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    return {**shared, "PYTHONUNBUFFERED": "1", **environment}
