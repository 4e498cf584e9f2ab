"""Telling that user code does not come back, and where it is."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context

import structlog

log = structlog.get_logger()

PATIENCE_SECONDS = 30.0


@contextmanager
def told_when_long(sentence: str, *, seconds: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Log this sentence with this thread's stack if the block takes so many seconds, and then ever less often."""
    thread, began, over = threading.get_ident(), time.monotonic(), threading.Event()

    def watch() -> None:
        pause = seconds
        while not over.wait(pause):
            waited = round(time.monotonic() - began)
            log.warning(sentence, seconds=waited, traceback=stack_of(thread))
            pause *= 2

    threading.Thread(target=copy_context().run, args=(watch,), name="patience", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def stack_of(thread: int | None) -> str:
    """Where a thread is: what the author of a program that hangs wants to know."""
    frame = sys._current_frames().get(thread or 0)  # noqa: SLF001 - the only way
    return "".join(traceback.format_stack(frame)) if frame is not None else ""
