"""The conditions of an FLJob's status, and the words that they can give as their reason.

Types and meaning follow KEP-style API conventions: each is set on the first visit, its time changes with its
status only, and its message says what happened, to whom, and what to do.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from job_generator.spec import MANAGER

Truth = Literal["True", "False", "Unknown"]
Condition = dict[str, Any]

COMPILED: Final = "Compiled"
SUSPENDED: Final = "Suspended"
SERVER_READY: Final = "ServerReady"
READY: Final = "Ready"
DEGRADED: Final = "Degraded"
STALLED: Final = "Stalled"
COMPLETE: Final = "Complete"
FAILED: Final = "Failed"
TYPES: Final = (COMPILED, SUSPENDED, SERVER_READY, READY, DEGRADED, STALLED, COMPLETE, FAILED)

MOST_MESSAGE: Final = 4096
"""Characters of a message: a traceback's end is in the pod's log."""

REASONS: Final[Mapping[int, str]] = {
    64: "JobError",
    65: "InvalidSpec",
    66: "ProgramError",
    67: "Mismatch",
    68: "TooFewWorkers",
    72: "StorageUnusable",
}
"""Why a job failed, by the permanent exit code of the process that says so."""


def time_of(now: dt.datetime) -> str:
    """A time as Kubernetes writes it, to the second."""
    return now.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_time(text: str) -> dt.datetime:
    """A time as Kubernetes wrote it."""
    return dt.datetime.fromisoformat(text)


class Conditions:
    """The conditions of one job while they are made anew; `listed` gives them as the status holds them."""

    def __init__(self, before: Sequence[Condition], *, generation: int, now: dt.datetime) -> None:
        self._before = {condition["type"]: condition for condition in before}
        self._generation = generation
        self._now = time_of(now)
        self._made: dict[str, Condition] = {}

    def set(self, kind: str, status: Truth, reason: str, message: str = "") -> None:
        """Say how it stands; the time of the last change is kept while the status is the same."""
        before = self._before.get(kind)
        same = before is not None and before["status"] == status
        self._made[kind] = {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message[:MOST_MESSAGE],
            "observedGeneration": self._generation,
            "lastTransitionTime": before["lastTransitionTime"] if before and same else self._now,
        }

    def leave(self, kind: str) -> None:
        """Say of this one what was said before, if anything was."""
        if kind in self._before:
            self._made[kind] = self._before[kind]

    def since(self, kind: str) -> dt.datetime:
        """When this one last changed."""
        return read_time(self._made[kind]["lastTransitionTime"])

    def is_true(self, kind: str) -> bool:
        """Whether this one has been said to be so."""
        return kind in self._made and self._made[kind]["status"] == "True"

    def became(self, kind: str, status: Truth = "True") -> bool:
        """Whether this one has just come to this status."""
        made, before = self._made.get(kind), self._before.get(kind)
        return (
            made is not None and made["status"] == status and (before is None or before["status"] != status)
        )

    def was(self, kind: str, reason: str) -> bool:
        """Whether it had this reason before."""
        return bool(self._before.get(kind, {}).get("reason") == reason)

    def said(self, kind: str, text: str) -> bool:
        """Whether its message had this in it before."""
        return text in self._before.get(kind, {}).get("message", "")

    @property
    def listed(self) -> list[Condition]:
        """All of them in a fixed order; what nobody spoke of is not known."""
        for kind in TYPES:
            if kind not in self._made:
                self.set(kind, "Unknown", "NotObserved")
        return [self._made[kind] for kind in TYPES]


def holds(conditions: Iterable[Condition], kind: str) -> bool:
    """Whether this condition is True."""
    return any(one["type"] == kind and one["status"] == "True" for one in conditions)


def is_ours(job: Mapping[str, Any]) -> bool:
    """Whether an FLJob is left to this operator, and to no other controller."""
    return bool(job["spec"].get("managedBy", MANAGER) == MANAGER)


def is_over(job: Mapping[str, Any]) -> bool:
    """Whether an FLJob is complete or has failed, for good in either case."""
    conditions = (job.get("status") or {}).get("conditions", ())
    return holds(conditions, COMPLETE) or holds(conditions, FAILED)
