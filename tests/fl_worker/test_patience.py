"""A program that does not come back is told of with the line that it is at."""

from __future__ import annotations

import threading

from structlog.testing import capture_logs

from fl_worker.patience import told_when_long


def test_a_block_that_takes_long_is_told_with_its_stack() -> None:
    """The log names the waiting function; a quick block is not told of."""
    with capture_logs() as logs:
        with told_when_long("quick", seconds=60):
            pass
        with told_when_long("the program is still being loaded", seconds=0.05):
            a_function_that_hangs(logs)
    told = [(one["event"], "a_function_that_hangs" in one["traceback"]) for one in logs]
    assert told[0] == ("the program is still being loaded", True)


def a_function_that_hangs(logs: list[object]) -> None:
    """It waits until it was told of."""
    while not logs:
        threading.Event().wait(0.02)
