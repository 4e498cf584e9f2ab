"""A worker that is told to end says so at once, hands in what it is at, and goes."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from fl_core.wire import fl_pb2 as pb
from fl_worker.farewell import WAY_OUT_SECONDS, time_to_finish
from tests.fl_worker.loopback import DIGEST, World

pytestmark = pytest.mark.timeout(30)

TOLD = """
    import asyncio, os, signal, sys, threading, time
    from fl_worker.farewell import told_to_end

    loop = asyncio.new_event_loop()
    heard = threading.Event()
    threading.Thread(target=loop.run_forever, daemon=True).start()
"""


@pytest.fixture
def world(write: Callable[..., Any]) -> World:
    """A world whose main thread is held at its first work."""
    return World(write("").plan.model_copy(update={"rounds": 9}))


async def said(world: World) -> tuple[str, int, int]:
    """The next thing that the scheduler hears besides beats: what it is, and of which round and attempt."""
    presence = await world.scheduler.said.get()
    return str(presence.WhichOneof("what")), presence.context.round, presence.context.attempt


@asynccontextmanager
async def parting(world: World, folder: Path, **what: Any) -> AsyncIterator[asyncio.Task[bool]]:
    """A session that was told to end while its program is at round 4, and has said so."""
    async with world.attending(folder) as task:
        assert await said(world) == ("enrolment", 0, 0)
        world.order(4, **what)
        await asyncio.to_thread(world.begun.wait)
        world.part()
        assert await said(world) == ("parting", 4, 1)
        yield task


def test_an_idle_worker_goes_at_once(world: World, tmp_path: Path) -> None:
    """The scheduler hears that it goes, ends the call, and that is all; what is ordered meanwhile is not begun."""

    async def main() -> None:
        async with world.attending(tmp_path) as task:
            assert await said(world) == ("enrolment", 0, 0)
            world.part()
            assert await said(world) == ("parting", 0, 0)
            world.order()
            world.scheduler.orders.put_nowait(None)
            assert await task
            assert not world.works

    asyncio.run(main())


def test_what_is_open_is_handed_in_first(world: World, tmp_path: Path) -> None:
    """It says at once that it goes, trains to the end, hands in, takes nothing else on, and only then goes."""

    async def main() -> None:
        async with parting(world, tmp_path) as task:
            world.order(5)
            world.free.set()
            assert (await world.server.pushed.get())[0].transfer.context.round == 4
            assert await said(world) == ("parting", 0, 0)
            world.scheduler.orders.put_nowait(None)
            assert await task
            assert [work.round for work in world.works] == [4]

    asyncio.run(main())


def test_what_takes_too_long_is_left(world: World, tmp_path: Path) -> None:
    """At the end of its grace it goes without an update, though the scheduler does not let it go."""
    world.grace = 0.2

    async def main() -> None:
        async with parting(world, tmp_path) as task:
            assert await said(world) == ("parting", 0, 0)
            assert await task
            assert world.server.pushed.empty()

    asyncio.run(main())


@pytest.mark.parametrize("what", ["release", "silence"])
def test_who_is_not_needed_does_not_stay(world: World, tmp_path: Path, what: str) -> None:
    """When the round needs it no more, or nobody is there to tell it, it goes before its program has come back."""

    async def main() -> None:
        async with parting(world, tmp_path) as task:
            if what == "release":
                world.order(4, release=pb.Release())
                assert await said(world) == ("parting", 0, 0)
            world.scheduler.orders.put_nowait(None)
            assert await task

    asyncio.run(main())


def test_a_job_that_is_over_meanwhile_is_over(world: World, tmp_path: Path) -> None:
    """Stop comes first: the worker ends as at the end of any job."""

    async def main() -> None:
        async with parting(world, tmp_path, evaluate=pb.Evaluate(model=DIGEST)) as task:
            world.order(stop=pb.Stop(reason="done"))
            assert not await task

    asyncio.run(main())


def run(code: str) -> subprocess.Popen[str]:
    """Run this beside an event loop in a thread; it prints what happens."""
    whole = dedent(TOLD) + dedent(code)
    return subprocess.Popen([sys.executable, "-u", "-c", whole], stdout=subprocess.PIPE, text=True)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_the_first_signal_is_heard_and_the_second_ends() -> None:
    """Both at once, though the main thread is in a library's code that no handler in Python interrupts."""
    process = run(
        """
        import ctypes
        with told_to_end(loop, lambda: print("told")):
            print("ready")
            while True:
                ctypes.CDLL(None).usleep(60_000_000)
        """
    )
    assert line(process) == "ready"
    process.send_signal(signal.SIGTERM)
    assert line(process) == "told"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143


def test_what_the_program_forks_ends_by_itself() -> None:
    """A child that is told to end does, and the worker does not take that for its own end."""
    process = run(
        """
        with told_to_end(loop, lambda: print("told")):
            if (child := os.fork()) == 0:
                time.sleep(60)
            os.kill(child, signal.SIGTERM)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            loop.call_soon_threadsafe(lambda: (print("untold"), heard.set()))
            heard.wait()
        """
    )
    assert [line(process), line(process)] == [str(-signal.SIGTERM), "untold"]
    assert process.wait(10) == 0


def test_time_is_kept_for_the_way_out() -> None:
    """A worker says that it goes before it is killed."""
    assert time_to_finish(30) == 30 - WAY_OUT_SECONDS
    assert time_to_finish(1) == 0
