"""Faults on purpose: what a file asks for is done to a run's processes at the steps that they tell.

A process that tells a step waits for the answer, so a fault hits it, or another one, at exactly that moment.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fl_core.steps import STARTED
from job_generator.local.chaos_links import KILO, Link, Net
from job_generator.local.chaos_spec import (
    AnyFault,
    Corrupt,
    Cut,
    Faults,
    FullDisk,
    Kill,
    LabelFlip,
    Nan,
    Planned,
    Reorder,
    SignFlip,
    Slow,
    Stop,
)
from job_generator.local.disturbance import Tap

HUNG_UP = (ConnectionError, BrokenPipeError)


@dataclass(slots=True)
class Deed:
    """One fault that was done; seconds since the run began, and from it to the server's next step.

    `training_after` are those until, after that step, a worker came to one of its own or the server to its next commit:
    a server that is there again does not train yet.
    """

    fault: str
    who: str
    round: int
    attempt: int
    step: str
    at: float
    back_after: float | None = None
    training_after: float | None = None


@dataclass(slots=True)
class Story:
    """What happened in a run, as its processes told it."""

    deeds: list[Deed] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    opened: dict[int, list[float]] = field(default_factory=dict)
    """When each attempt of a round was opened."""
    starts: dict[str, int] = field(default_factory=dict)
    ended: float = 0.0


class Chaos:
    """The faults of one run; `storage` is the server's folder, `tell` takes a sentence for the user."""

    def __init__(
        self,
        faults: Faults,
        *,
        workers: int,
        storage: Path,
        tell: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.story = Story()
        self._faults = faults
        self._workers = workers
        self._storage = storage
        self._tell = tell
        self._now = now
        self._begin = now()
        self._net = Net()
        self._pids: dict[str, int] = {}
        self._ends: dict[str, socket.socket] = {}
        self._stopped: set[str] = set()
        self._killed: set[str] = set()
        self._planned: dict[int, list[Planned]] = {}
        self._full_until = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    # -- what the supervisor asks --

    @contextmanager
    def tap(self, name: str) -> Iterator[Tap]:
        """Listen to a process that is about to start."""
        ours, theirs = socket.socketpair()
        with theirs:
            yield Tap(("--chaos-fd", str(theirs.fileno())), (theirs.fileno(),))
        self._ends[name] = ours
        self._do(self._listen(name, ours))

    def started(self, name: str, pid: int) -> None:
        """A process has this number now."""
        self._pids[name] = pid

    async def way(self, client: str, peer: str, address: str) -> str:
        """The address of a link between the two."""
        return await self._net.way(client, peer, address)

    def killed(self, name: str) -> bool:
        """Whether the last death of this process was made here."""
        was, self._killed = name in self._killed, self._killed - {name}
        return was

    async def end(self) -> Story:
        """Let go of everything, and say what happened."""
        self.story.ended = self._seconds()
        for name in list(self._stopped):
            self._continue(name)
        for task in self._tasks:
            task.cancel()
        await self._net.close()
        left = [(number, one) for number, several in self._planned.items() for one in several]
        self.story.missed += [
            f"{one.fault.fault} of {one.who} in round {number}: it did not come to {one.step}"
            for number, one in left
        ]
        return self.story

    # -- what the processes tell --

    async def _listen(self, name: str, end: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=end)
        with suppress(*HUNG_UP):
            while line := await reader.readline():
                told = json.loads(line)
                answer = self._told(name, told["step"], told["round"])
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        writer.close()
        if self._ends[name] is end:
            self._pids.pop(name, None)

    def _told(self, name: str, step: str, number: int) -> dict[str, Any]:
        """A process has come to a step: do what is to be done then, and say what it is to do itself."""
        if step == STARTED:
            self.story.starts[name] = self.story.starts.get(name, 0) + 1
            return self._filled() if name == "server" else {}
        if name == "server":
            self._returned()
        if name.startswith("worker") or step == "commit":
            self._trained()
        if step == "open":
            self.story.opened.setdefault(number, []).append(self._seconds())
        answer: dict[str, Any] = {}
        for one in self._due(name, step, number):
            answer |= self._befall(one, number)
        return answer

    def _due(self, name: str, step: str, number: int) -> list[Planned]:
        """What is to be done now that this process has come to this step; each only once."""
        if number not in self._planned:
            self._planned[number] = self._faults.planned(number, self._workers) if number else []
        due = [one for one in self._planned[number] if one.step == step and _concerns(one.who, name, step)]
        self._planned[number] = [one for one in self._planned[number] if one not in due]
        return due

    def _returned(self) -> None:
        """The job goes on: note how long it took since each fault that it had still to get over."""
        for deed in self.story.deeds:
            if deed.back_after is None:
                deed.back_after = round(self._seconds() - deed.at, 3)

    def _trained(self) -> None:
        """The job trains: note how long it took since each fault after which the server is there again."""
        for deed in self.story.deeds:
            if deed.training_after is None and deed.back_after is not None:
                deed.training_after = round(self._seconds() - deed.at, 3)

    # -- doing it --

    def _befall(self, one: Planned, number: int) -> dict[str, Any]:
        fault, who = one.fault, one.who
        if who not in self._pids:
            self.story.missed.append(f"{fault.fault} of {who} in round {number}: it was not running")
            return {}
        attempt = len(self.story.opened.get(number, ())) or 1
        self.story.deeds.append(Deed(describe(fault), who, number, attempt, one.step, self._seconds()))
        self._tell(f"chaos: {describe(fault)} of {who} in round {number} at {one.step}")
        return self._act(fault, who)

    def _act(self, fault: AnyFault, who: str) -> dict[str, Any]:
        match fault:
            case Kill():
                self._killed.add(who)
                self._signal(who, signal.SIGKILL)
            case Stop():
                self._stopped.add(who)
                self._signal(who, signal.SIGSTOP)
                self._later(fault.seconds, lambda: self._continue(who))
            case Corrupt(what="connection"):
                for link in self._net.of(who):
                    link.weather.spoil_next = True
            case Cut() | Slow() | Reorder():
                for link in self._net.of(who):
                    _worsen(link, fault)
                    self._later(fault.seconds, link.calm)
            case FullDisk():
                self._full_until = self._now() + fault.seconds
                return self._filled()
            case Corrupt() | Nan() | SignFlip() | LabelFlip():
                return {"spoil": fault.fault}
        return {}

    def _filled(self) -> dict[str, Any]:
        left = self._full_until - self._now()
        return {"full": str(self._storage.absolute()), "seconds": left} if left > 0 else {}

    def _continue(self, name: str) -> None:
        self._stopped.discard(name)
        self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, KeyError):
            os.kill(self._pids[name], number)

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            act()

        self._do(wait())

    def _do(self, work: Any) -> None:  # noqa: ANN401 - a coroutine
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _seconds(self) -> float:
        return round(self._now() - self._begin, 3)


def describe(fault: AnyFault) -> str:
    """A fault in words."""
    match fault:
        case Stop() | FullDisk():
            return f"{fault.fault} for {fault.seconds:g} s"
        case Cut():
            return f"{'silence' if fault.silent else 'cut'} for {fault.seconds:g} s"
        case Slow():
            rate = f" {fault.kilobytes_per_second:g} kB/s" if fault.kilobytes_per_second else ""
            late = f" {fault.delay_seconds:g} s late" if fault.delay_seconds else ""
            return f"slow{rate}{late} for {fault.seconds:g} s"
        case Reorder():
            return f"reorder up to {fault.delay_seconds:g} s for {fault.seconds:g} s"
        case Corrupt():
            return f"corrupt {fault.what}"
    return fault.fault


WORKERS_STEPS = {"send", "train", "upload", "unmask", "evaluate"}


def _concerns(who: str, name: str, step: str) -> bool:
    """Whether this process's coming to this step is the moment: a worker waits for its own, others for anybody's."""
    return name == who or step not in WORKERS_STEPS or not who.startswith("worker")


def _worsen(link: Link, fault: Cut | Slow | Reorder) -> None:
    match fault:
        case Cut(silent=True):
            link.weather.flowing.clear()
        case Cut():
            link.cut()
        case Slow():
            rate = fault.kilobytes_per_second
            link.weather.bandwidth = rate * KILO if rate else None
            link.weather.delay = fault.delay_seconds
        case Reorder():
            link.weather.scatter = fault.delay_seconds
