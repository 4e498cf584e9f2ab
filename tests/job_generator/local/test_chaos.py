from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from job_generator.local.chaos import Chaos
from job_generator.local.chaos_spec import Faults


@dataclass
class Puppet:
    """A process that sleeps, and the steps that are told in its name."""

    process: subprocess.Popen[bytes]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def tell(self, step: str, number: int = 0) -> dict[str, Any]:
        """Come to a step; gives the answer."""
        self.writer.write(json.dumps({"step": step, "round": number}).encode() + b"\n")
        return dict(json.loads(await self.reader.readline()))

    async def becomes(self, letter: str) -> None:
        """Wait until it sleeps (S) or is stopped (T)."""
        async with asyncio.timeout(5):
            while self.state != letter:
                await asyncio.sleep(0.01)

    @property
    def state(self) -> str:
        """Its letter in /proc: S sleeps, T is stopped, Z is dead."""
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0]


@asynccontextmanager
async def puppet(chaos: Chaos, name: str) -> AsyncIterator[Puppet]:
    with chaos.tap(name) as tap:
        end = socket.socket(fileno=os.dup(tap.descriptors[0]))
        process = subprocess.Popen(["sleep", "60"])  # noqa: ASYNC220, S607 - it starts at once
    chaos.started(name, process.pid)
    reader, writer = await asyncio.open_connection(sock=end)
    try:
        yield Puppet(process, reader, writer)
    finally:
        writer.close()
        process.kill()
        process.wait()


def chaos(*faults: dict[str, Any], storage: Path = Path("storage"), **more: Any) -> Chaos:
    chosen = Faults.model_validate({"faults": faults})
    return Chaos(chosen, workers=2, storage=storage, tell=lambda _: None, **more)


def test_a_fault_of_another_happens_when_the_first_comes_to_the_step() -> None:
    """The server is killed as a worker is about to train: once, before that worker is let go."""

    async def run() -> None:
        chosen = chaos({"fault": "kill", "who": "server", "round": 2, "step": "train"})
        async with puppet(chosen, "server") as server, puppet(chosen, "worker-1") as worker:
            await worker.tell("train", 1)
            assert server.state != "Z"
            await worker.tell("train", 2)
            assert server.process.wait(5) == -9
            assert (chosen.killed("server"), chosen.killed("server")) == (True, False)
            await worker.tell("train", 2)
            story = await chosen.end()
        (deed,) = story.deeds
        assert (deed.fault, deed.who, deed.round, deed.step) == ("kill", "server", 2, "train")

    asyncio.run(run())


def test_the_job_trains_again_later_than_the_server_is_back() -> None:
    """What a worker does for a server that is gone is not it, nor is its successor itself; what comes then is."""

    async def run() -> None:
        time = iter(range(1_000))
        chosen = chaos(
            {"fault": "kill", "who": "server", "round": 2, "step": "train"}, now=lambda: next(time)
        )
        async with puppet(chosen, "server"), puppet(chosen, "worker-1") as worker:
            await worker.tell("train", 2)
            await worker.tell("upload", 2)
            (deed,) = chosen.story.deeds
            assert (deed.back_after, deed.training_after) == (None, None)
            async with puppet(chosen, "server") as again:
                await again.tell("open", 2)
                assert deed.back_after is not None
                assert deed.training_after is None
                await worker.tell("upload", 2)
            await chosen.end()
        assert deed.training_after > deed.back_after

    asyncio.run(run())


def test_a_workers_fault_waits_for_that_worker() -> None:
    """Worker 1 is spoilt at its own training, not at that of worker 0; nobody else is told to do anything."""

    async def run() -> None:
        chosen = chaos({"fault": "nan", "who": "worker-1", "round": 1})
        async with puppet(chosen, "worker-0") as other, puppet(chosen, "worker-1") as worker:
            assert await other.tell("train", 1) == {}
            assert await worker.tell("train", 1) == {"spoil": "nan"}
            assert await worker.tell("train", 1) == {}

    asyncio.run(run())


def test_a_stopped_process_goes_on_after_its_time_and_at_the_end() -> None:
    """SIGSTOP for so many seconds; whoever is still stopped when the run ends is let go."""

    async def run() -> None:
        short = {"fault": "stop", "who": "server", "round": 1, "step": "open", "seconds": 0.2}
        chosen = chaos(short, {**short, "round": 2, "seconds": 3_600})
        async with puppet(chosen, "server") as server:
            await server.tell("open", 1)
            await server.becomes("T")
            await server.becomes("S")
            await server.tell("open", 2)
            await server.becomes("T")
            await chosen.end()
            await server.becomes("S")

    asyncio.run(run())


def test_a_full_disk_is_still_full_for_the_servers_successor(tmp_path: Path) -> None:
    """The server is told which folder is full for how long, and so is one that starts meanwhile; workers are not."""

    async def run() -> None:
        fault = {"fault": "full_disk", "round": 1, "step": "commit", "seconds": 30}
        chosen = chaos(fault, storage=tmp_path)
        async with puppet(chosen, "server") as server, puppet(chosen, "worker-0") as worker:
            assert await server.tell("start") == {}
            assert (await server.tell("commit", 1))["full"] == str(tmp_path)
            again = await server.tell("start")
            assert again["full"] == str(tmp_path)
            assert 29 < again["seconds"] <= 30
            assert await worker.tell("start") == {}

    asyncio.run(run())


def test_what_was_not_done_is_told() -> None:
    """A step that nobody came to, and a process that was not there, are in the story with their reasons."""

    async def run() -> None:
        chosen = chaos(
            {"fault": "kill", "who": "worker-1", "round": 1, "step": "open"},
            {"fault": "kill", "who": "server", "round": 1, "step": "unmask"},
        )
        async with puppet(chosen, "server") as server:
            await server.tell("open", 1)
            assert server.state in "SR"
            story = await chosen.end()
        assert story.missed == [
            "kill of worker-1 in round 1: it was not running",
            "kill of server in round 1: it did not come to unmask",
        ]

    asyncio.run(run())
