"""A fault proxy in a thread of its own, for tests that start processes and do not run in an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.proxy.faults import Faults
from tests.cluster.proxy.server import Done, FaultProxy

STALL_SECONDS = 3.0
"""What hangs breaks after so long, as in a network that forgets idle connections."""


class Beside:
    """What a test holds of a proxy that runs beside it."""

    def __init__(self, proxy: FaultProxy, loop: asyncio.AbstractEventLoop) -> None:
        self.kubeconfig, self.faults = proxy.kubeconfig, proxy.faults
        self._proxy, self._loop = proxy, loop

    def calm(self) -> None:
        """Let everything through from now on; what hangs breaks."""
        print(f"seed {self.faults.seed}: {dict(self.faults.happened)}")  # noqa: T201 - shown when a test fails
        self._do(self._proxy.calm)

    def listen(self, heard: Callable[[Done], None]) -> None:
        """From now on call this, in the proxy's thread, with each answered write before who asked hears of it."""
        self._proxy.heard = heard

    def partition(self) -> None:
        """From now on nothing comes through, and nothing is answered."""
        self._do(self._proxy.partition)

    def reconnect(self) -> None:
        """End a partition; what hung breaks."""
        self._do(self._proxy.reconnect)

    def _do(self, what: Callable[[], None]) -> None:
        async def call() -> None:
            what()

        asyncio.run_coroutine_threadsafe(call(), self._loop).result()


@contextmanager
def beside(kubeconfig: Path, faults: Faults) -> Iterator[Beside]:
    """A proxy that serves until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fault proxy", daemon=True)
    thread.start()
    proxy = FaultProxy(kubeconfig, faults, longest_stall=STALL_SECONDS)
    try:
        asyncio.run_coroutine_threadsafe(proxy.__aenter__(), loop).result()
        yield Beside(proxy, loop)
    finally:
        asyncio.run_coroutine_threadsafe(proxy.__aexit__(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
