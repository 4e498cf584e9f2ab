"""Keeping the processes of a run alive, and ending them together.

They start by announcement: the scheduler, then the server, then the workers. One that crashes is started
again, the scheduler and the server at the address that the others know. A worker that ends for good is
missed, and the run ends when the quorum is lost; it also ends with the server or the scheduler. Nothing polls.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from fl_core.environment import GRACE
from fl_core.errors import TERMINATED_EXIT_CODE, ShortfallError, UnavailableError
from job_generator.local.child import SIGNALLED, Child, Command, DiedError, Outcome
from job_generator.local.disturbance import PEACE, Disturbance

CORE = ("scheduler", "server")
ANY_PORT = "127.0.0.1:0"
FIRST_DELAY = 0.5
LONGEST_DELAY = 15.0


class Commands(Protocol):
    """The command lines of a job's processes."""

    def scheduler(self, *, listen: str) -> Command:
        """Give the scheduler's."""

    def server(self, *, listen: str, scheduler: str) -> Command:
        """Give the server's, which dials the scheduler."""

    def worker(self, index: int, *, scheduler: str, server: str) -> Command:
        """Give one worker's, which dials both."""


@dataclass(frozen=True, slots=True)
class Staffing:
    """How many workers there are, how few suffice, how often each may be restarted; seconds to get ready.

    `core_restarts` is how often the server and the scheduler may be without a round between them.
    """

    workers: int
    quorum: int
    restarts: int
    core_restarts: int = 5
    ready_seconds: float = 900.0
    numbers: tuple[int, ...] = ()
    """Of the workers that there are at first; those from 0 on without it."""
    indispensable: frozenset[str] = frozenset()
    """Workers without whom the run cannot end well, such as those whose updates a replay asks for."""
    threads: int | None = None
    """How many each process has for its sums; a share of the machine's cores without it."""


@dataclass(frozen=True, slots=True)
class Graces:
    """Seconds that processes have to end by themselves once the job is over, and after SIGTERM.

    The first are cut short when the run is to stop now. A worker that is too many has its time to `leave`, in which it
    hands in what it is at.
    """

    end: float = 20.0
    stop: float = 5.0
    leave: float = 30.0


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
        disturbance: Disturbance = PEACE,
    ) -> None:
        self._commands = commands
        self._staffing = staffing
        self._logs = logs
        self._graces = graces
        self._reports = reports
        self._disturbance = disturbance
        self._children: dict[str, Child] = {}
        self._crashes: Counter[str] = Counter()
        self._lost: list[Outcome] = []
        self._departures: asyncio.Queue[asyncio.Task[Outcome]] = asyncio.Queue()
        self._wanted = {f"worker-{index}" for index in staffing.numbers or range(staffing.workers)}
        self._hired = 0
        self._scaling = asyncio.Lock()
        self._leaving: set[str] = set()
        self._farewells: dict[str, asyncio.Task[None]] = {}
        self._losses: asyncio.Task[Outcome | None] | None = None
        self._keepers: dict[str, asyncio.Task[Outcome]] = {}
        self._stop: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        environment = {**os.environ, GRACE: f"{graces.leave:g}"}
        self._environment = process_environment(
            environment, processes=staffing.workers, threads=staffing.threads
        )
        self._scheduler = self._server = ""
        self._over = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        keepers = self._keepers.values()
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        children = list(self._children.values())
        if self._over:
            ends = asyncio.gather(*(child.wait() for child in children))
            waits: list[asyncio.Future[Any]] = [ends, self._stop]
            await asyncio.wait(waits, timeout=self._graces.end, return_when=asyncio.FIRST_COMPLETED)
            ends.cancel()
        await asyncio.gather(*(child.stop(grace=self._graces.stop) for child in children))

    async def start(self) -> str:
        """Start everything; returns the server's address once it listens."""
        commands = self._commands
        self._scheduler = await self._listen("scheduler", commands.scheduler(listen=ANY_PORT))
        self._keep("scheduler", commands.scheduler(listen=self._scheduler))
        way = self._disturbance.way
        scheduler = await way("server", "scheduler", self._scheduler)
        server = commands.server(listen=ANY_PORT, scheduler=scheduler)
        self._server = await self._listen("server", server)
        self._keep("server", commands.server(listen=self._server, scheduler=scheduler))
        for index in self._staffing.numbers or range(self._staffing.workers):
            await self._hire(index)
        return self._server

    async def _hire(self, index: int) -> None:
        name, way = f"worker-{index}", self._disturbance.way
        scheduler = await way(name, "scheduler", self._scheduler)
        server = await way(name, "server", self._server)
        self._keep(name, self._commands.worker(index, scheduler=scheduler, server=server))
        self._keepers[name].add_done_callback(self._departures.put_nowait)
        self._hired += 1

    async def scale(self, workers: int) -> None:
        """Have the workers 0 to `workers` - 1: who is missing is started now, who is too many is told to go, once.

        One that was lost for good, and one that is still on its way out, does not come back.
        """
        async with self._scaling:
            self._wanted = {f"worker-{index}" for index in range(workers)}
            self._leaving = self._keepers.keys() - {*CORE, *self._wanted}
            self._dismiss()
            for index in range(workers):
                keeper = self._keepers.get(f"worker-{index}")
                if keeper is None or (keeper.done() and keeper.result().exit_code == 0):
                    self._children.pop(f"worker-{index}", None)
                    await self._hire(index)

    def _dismiss(self) -> None:
        for name in self._leaving - self._farewells.keys():
            if (child := self._children.get(name)) is not None and not child.over:
                self._farewells[name] = asyncio.create_task(self._part(name, child))

    async def _part(self, name: str, child: Child) -> None:
        try:
            await child.stop(grace=self._graces.leave)
        finally:
            del self._farewells[name]

    async def ended(self) -> Outcome:
        """How the run ended, and through whom."""
        self._losses = asyncio.create_task(self._quorum_lost())
        ends = [
            asyncio.create_task(end())
            for end in (self._server_end, self._scheduler_end, self._workers_end, self._stopped)
        ]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            outcome = next(end.result() for end in ends if end.done())
        finally:
            for end in (self._losses, *ends):
                end.cancel()
        self._over = outcome.exit_code == 0
        return outcome

    def progressed(self) -> None:
        """A round was closed: server and scheduler work, and what they crashed of before is over."""
        for name in CORE:
            del self._crashes[name]

    def stop_now(self, exit_code: int = TERMINATED_EXIT_CODE) -> None:
        """End the run without waiting for its round."""
        if not self._stop.done():
            self._stop.set_result(Outcome(exit_code, "", "stopped before the end"))

    async def _listen(self, name: str, command: Command) -> str:
        """Start a process and wait until it listens; one that is killed before that is started again.

        So is one whose peer does not answer yet. Any other that ends by itself has said why, and nothing is lost yet:
        the user is told at once.
        """
        while True:
            try:
                return await self._announced(await self._spawn(name, command))
            except DiedError as error:
                code = error.outcome.exit_code if error.outcome.culprit == name else 0
                waits = code > SIGNALLED or code == UnavailableError.exit_code
                if not waits or not await self._forgiven(name, error.outcome):
                    raise

    async def _announced(self, child: Child) -> str:
        announced = asyncio.create_task(child.announced())
        keepers, waited = self._keepers.values(), self._staffing.ready_seconds
        ends: list[asyncio.Future[Any]] = [self._stop, announced, *keepers]
        await asyncio.wait(ends, timeout=waited, return_when=asyncio.FIRST_COMPLETED)
        if announced.done():
            return announced.result().address
        announced.cancel()
        if self._stop.done():
            raise DiedError(self._stop.result())
        lost = next((keeper.result() for keeper in keepers if keeper.done()), None)
        silent = Outcome(
            UnavailableError.exit_code, "", f"{child.name} did not listen within {waited:.0f} seconds"
        )
        raise DiedError(lost or silent)

    async def _spawn(self, name: str, command: Command) -> Child:
        log = self._logs / f"{name}.log"
        with self._disturbance.tap(name) as tap:
            child = await Child.spawn(name, command, log=log, environment=self._environment, tap=tap)
        self._children[name] = child
        self._dismiss()  # it may have become one too many while it was started
        self._disturbance.started(name, child.pid)
        self._reports.started(name, child.pid)
        return child

    def _keep(self, name: str, command: Command) -> None:
        self._keepers[name] = asyncio.create_task(self._kept(name, command))

    async def _kept(self, name: str, command: Command) -> Outcome:
        """Run a process to its end, started again when it crashes; its last end says how it went."""
        child = self._children.get(name) or await self._spawn(name, command)
        while await child.wait() != 0 and await self._forgiven(name, child.outcome()):
            child = await self._spawn(name, command)
        return Outcome(0, name) if name in self._leaving else child.outcome()

    async def _forgiven(self, name: str, outcome: Outcome) -> bool:
        """Whether a process that ended so is started again; returns when it is to be."""
        if name in self._leaving:
            return False
        delay = restart_delay(self._crashes[name])
        wanted = self._disturbance.killed(name)
        if not wanted:
            self._crashes[name] += 1
        allowed = self._staffing.core_restarts if name in CORE else self._staffing.restarts
        if outcome.permanent or self._crashes[name] > allowed:
            return False
        happened = "was killed on purpose" if wanted else f"crashed ({outcome.sentence})"
        self._reports.tell(f"{name} {happened}; it starts again in {delay:.1f} s")
        await asyncio.wait({self._stop}, timeout=delay)
        return not self._stop.done() and name not in self._leaving

    async def _end_of(self, name: str) -> Outcome:
        """Wait until a process has ended for good, and leave it to its keeper when nobody waits any more."""
        return await asyncio.shield(self._keepers[name])

    async def _server_end(self) -> Outcome:
        outcome = await self._end_of("server")
        if outcome.exit_code == 0:
            return Outcome(0)
        return await self._cause(outcome) if outcome.exit_code == ShortfallError.exit_code else outcome

    async def _cause(self, shortfall: Outcome) -> Outcome:
        """What made the server miss workers: they have said it to the server, and are about to end of it themselves."""
        if self._losses is not None:
            await asyncio.wait({self._losses}, timeout=self._graces.end)
            if self._losses.done() and (cause := self._losses.result()) is not None:
                return cause
        if not self._lost:
            return shortfall
        first = self._lost[0]
        return replace(
            shortfall, sentence=f"{shortfall.sentence} (first lost: {first.culprit}, {first.sentence})"
        )

    async def _scheduler_end(self) -> Outcome:
        outcome = await self._end_of("scheduler")
        return outcome if outcome.exit_code else await self._server_end()

    async def _workers_end(self) -> Outcome:
        if self._losses is not None and (outcome := await asyncio.shield(self._losses)) is not None:
            return outcome
        return await self._server_end()

    async def _quorum_lost(self) -> Outcome | None:
        """How the quorum was lost; None where all workers have ended and it was not."""
        while self._hired:
            outcome = await (await self._departures.get())
            self._hired -= 1
            if outcome.exit_code == 0:
                continue
            self._lost.append(outcome)
            if outcome.culprit in self._staffing.indispensable:
                why = "the record that is replayed has its updates, so the run ends"
                return replace(outcome, sentence=f"{outcome.sentence.rstrip('.')}; {why}")
            left = len(self._wanted - {lost.culprit for lost in self._lost})
            if left < self._staffing.quorum:
                return self._blame(outcome)
            self._reports.tell(
                f"{outcome.culprit} is out: {outcome.sentence.rstrip('.')}. "
                f"The job goes on with {left} of {len(self._wanted)} workers."
            )
        return None

    async def _stopped(self) -> Outcome:
        return await asyncio.shield(self._stop)

    def _blame(self, outcome: Outcome) -> Outcome:
        """Name the worker that was lost first as the cause: the others mostly say the same."""
        if not self._lost:
            return outcome
        first, count = self._lost[0], len(self._lost)
        others = f" ({count} of {len(self._wanted)} workers were lost, too many)" if count > 1 else ""
        return replace(first, sentence=first.sentence + others)


def restart_delay(restart: int) -> float:
    """Seconds before a process's next start: doubling, and bounded."""
    return min(FIRST_DELAY * 2.0**restart, LONGEST_DELAY)


def process_environment(
    environment: Mapping[str, str], *, processes: int, threads: int | None = None
) -> dict[str, str]:
    """Inherit everything, with the machine's cores shared out where the user did not do so.

    gRPC's core reads its variable when it is imported; what it writes itself is no line of JSON.
    """
    share = str(threads or max(1, (os.cpu_count() or 1) // processes))
    shared = {"OMP_NUM_THREADS": share, "OPENBLAS_NUM_THREADS": share, "MKL_NUM_THREADS": share}
    return {**shared, "PYTHONUNBUFFERED": "1", "GRPC_VERBOSITY": "NONE", **environment}
