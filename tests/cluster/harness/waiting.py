"""Waiting for what cannot be watched."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 120.0  # seconds; two cores that others use too
PROBE_EVERY = 0.1  # seconds between two looks


def until(probe: Callable[[], bool], *, within: float = PATIENCE) -> bool:
    """Whether `probe` said yes within so many seconds."""
    deadline = time.monotonic() + within
    while not probe():
        if time.monotonic() > deadline:
            return False
        time.sleep(PROBE_EVERY)
    return True
