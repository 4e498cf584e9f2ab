"""SIGTERM to a worker: its conversation hears of it at once, whatever the user's code does in the main thread."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fl_core.errors import TERMINATED_EXIT_CODE
from fl_core.process import leave

WAY_OUT_SECONDS = 3.0
"""Of its time until SIGKILL a worker keeps so much for saying that it goes."""


def time_to_finish(grace: float) -> float:
    """For how many of the seconds between SIGTERM and SIGKILL a worker may go on with what it is at."""
    return max(grace - WAY_OUT_SECONDS, 0.0)


@contextmanager
def told_to_end(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> Iterator[None]:
    """Within the block the first SIGTERM calls `act` on this loop, and the second one ends the process.

    A handler in Python would wait until the main thread, where this is called, comes back from a library's code; the
    signal's number is written to the loop's socket at once. A process that the user's code forks has neither.
    """
    reading, writing = socket.socketpair()
    reading.setblocking(False)
    writing.setblocking(False)
    heard = 0

    def take() -> None:
        nonlocal heard
        for _ in range(reading.recv(1024).count(signal.SIGTERM)):
            heard += 1
            if heard > 1:
                leave(TERMINATED_EXIT_CODE)
            act()

    loop.call_soon_threadsafe(loop.add_reader, reading, take)
    os.register_at_fork(before=_hold_back, after_in_parent=_let_through, after_in_child=_forget)
    woken = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    before = signal.signal(signal.SIGTERM, _written)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.set_wakeup_fd(woken)
        reading.close()
        writing.close()


def _written(number: int, frame: object) -> None:
    """The number has been written already."""


_masks = threading.local()


def _hold_back() -> None:
    """Have SIGTERM wait while this thread forks: a child that gets it before it has forgotten ours would live on."""
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _let_through() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _forget() -> None:
    if signal.getsignal(signal.SIGTERM) is _written:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _let_through()
