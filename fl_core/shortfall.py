"""Why workers drop out of a round, and why an attempt has too few updates: in one sentence that says what to mend."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from fl_core.errors import RoundError
from fl_core.plan import Selection

DEADLINE, STALLED = "deadline", "stalled"
BEGUN = "begun without it"
"""Of the secure sum of a round: who was not there when shares were dealt cannot join it."""
LATE = frozenset({DEADLINE, STALLED, BEGUN})
"""Why a worker is dropped that is there."""
SILENT, GONE = "no heartbeat", "gone"
LOST = frozenset({SILENT, GONE})
"""Why one is that is not."""
LEFT = "left"
"""Why one is that was told to end and has said so; whatever else is said as a reason is a worker's own."""

REFUSED = "refused"
"""Why one is whose update or message the server did not take; what was wrong follows after a colon."""
DECLINED = "declined"
"""What reasons of workers are called together."""

BUSY = "the program is still busy"
"""What a worker says whose program has not come back from an earlier order."""


def too_few(selection: Selection, counts: tuple[int, int, int], dropped: Mapping[str, str]) -> str:
    """Of how many workers there are updates, how many were asked and are needed, and why the `dropped` have none."""
    reported, asked, minimum = counts
    by_reason: dict[str, list[str]] = defaultdict(list)
    for worker, reason in sorted(dropped.items()):
        by_reason[reason].append(worker)
    why = "; ".join(_told(workers, reason, selection) for reason, workers in by_reason.items())
    return f"{reported} updates of {asked} asked, fewer than selection.minimum ({minimum}) ({why})"


MENDING = (
    "; to resume would ask the same again: mend the program or its data, or allow more time, and start the "
    "job anew"
)
"""What is added to the end of a job that recurs."""


def recurs(dropped: Mapping[str, str]) -> bool:
    """Whether the causes all lie in the job itself, so that to go on with it as it is would ask for the same."""
    return bool(dropped) and all(_is_own(worker, reason) for worker, reason in dropped.items())


def kind_of(reason: str) -> str:
    """One of few words for a reason: that of the server or the scheduler; `declined` for a worker's own."""
    word = reason.partition(": ")[0]
    return word if word == REFUSED or reason in LATE | LOST | {LEFT} else DECLINED


def refused(error: RoundError) -> str:
    """The reason of a worker that sent what the server refused: nothing of what it sent is in it."""
    return f"{REFUSED}: {error.short or 'it was not what was asked for'}"


def own(worker: str, reason: str) -> str:
    """A worker's own reason, so that nobody takes it for one of the server's or the scheduler's."""
    return reason if kind_of(reason) == DECLINED else f"{worker}: {reason}"


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
    if reason == LEFT:
        return f"{who} left: told to end, as those are who are scaled down or whose node is drained"
    return reason if reason.startswith(workers[0]) else f"{who}: {reason}"
