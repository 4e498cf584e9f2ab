"""Why workers drop out of a round, and why an attempt has too few updates: in one sentence that says what to mend."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from fl_core.plan import Selection

DEADLINE, STALLED = "deadline", "stalled"
LATE = frozenset({DEADLINE, STALLED})
"""Why a worker is dropped that is there."""
LOST = frozenset({"no heartbeat", "gone"})
"""Why one is that is not; whatever else is said as a reason is a worker's own."""

BUSY = "the program is still busy"
"""What a worker says whose program has not come back from an earlier order."""

RECURS = "to resume would ask the same again"
"""What is said at the end of a job where the causes all lie in the job itself."""


def too_few(selection: Selection, counts: tuple[int, int, int], dropped: Mapping[str, str]) -> str:
    """Of how many workers there are updates, how many were asked and are needed, and why the `dropped` have none."""
    reported, asked, minimum = counts
    by_reason: dict[str, list[str]] = defaultdict(list)
    for worker, reason in sorted(dropped.items()):
        by_reason[reason].append(worker)
    why = "; ".join(_told(workers, reason, selection) for reason, workers in by_reason.items())
    return f"{reported} updates of {asked} asked, fewer than selection.minimum ({minimum}) ({why})"


def mending(dropped: Mapping[str, str]) -> str:
    """What is added where this ends the job, and to go on with it as it is would not help; else nothing."""
    if not dropped or not all(_is_own(worker, reason) for worker, reason in dropped.items()):
        return ""
    return f"; {RECURS}: mend the program or its data, or allow more time, and start the job anew"


def recurs(sentence: str) -> bool:
    """Whether this sentence says that to go on with the job as it is would ask for the same."""
    return RECURS in sentence


def _is_own(worker: str, reason: str) -> bool:
    """Whether it is the program that kept this worker: it is late, or what it gave was refused by the worker."""
    return reason == DEADLINE or reason.startswith((worker, BUSY))


def _told(workers: list[str], reason: str, selection: Selection) -> str:
    who = ", ".join(workers)
    if reason == DEADLINE:
        return (
            f"{who}: nothing whole had come within spec.selection.deadlineSeconds ({selection.deadline_seconds:g} s); "
            "where the program does not come back, the worker's log has its stack"
        )
    return reason if reason.startswith(workers[0]) else f"{who}: {reason}"
