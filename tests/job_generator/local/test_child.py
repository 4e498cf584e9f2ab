"""A process is waited for by one alone, so its exit code is its own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from job_generator.local.child import SIGNALLED, Child


@pytest.fixture
def waiting_on_the_loop() -> Iterator[None]:
    """The event loop itself notices ends, as from Python 3.12 on; before, a thread does, a moment earlier or later."""
    if sys.version_info >= (3, 12):
        yield
        return
    asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
    yield
    asyncio.set_child_watcher(None)  # type: ignore[arg-type]  # the default one again


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
@pytest.mark.usefixtures("waiting_on_the_loop")
def test_one_that_has_just_ended_is_stopped_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Stopped before the event loop has noticed its end, it keeps its exit code, and nothing is logged."""

    async def run() -> int:
        body = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
        child = await Child.spawn(
            "c",
            lambda _: [sys.executable, "-S", "-c", body],
            log=tmp_path / "c.log",
            environment=os.environ,
        )
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - the loop is to be late
        await child.stop(grace=5)
        return await child.wait()

    assert asyncio.run(run()) == SIGNALLED + 9
    assert "Unknown child process" not in caplog.text
