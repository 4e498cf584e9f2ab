"""What is seen of a job, and what can be done about it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from fl_operator.attempt import Attempt, holds_attempt
from fl_operator.cluster.resources import Object
from fl_operator.status import Report
from fl_operator.trial import Trial
from job_generator.problems import Problem

Place = tuple[str, str]
"""Kind and name of an object in the job's namespace."""


def place_of(thing: Object) -> Place:
    """Where an object is in the job's namespace."""
    return thing["kind"], thing["metadata"]["name"]


MOST_AT_ONCE: Final = 8
"""Actions of one job; a job of many sites has many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All that is known of a job: its frozen attempt, its children, their pods, what its server says."""

    job: Object
    attempt: Attempt | None = None
    children: Mapping[Place, Object] = field(default_factory=dict)
    taken: frozenset[Place] = frozenset()
    """Names that somebody else's objects have."""
    refused: Mapping[Place, str] = field(default_factory=dict)
    """What the API server said of children that it did not take."""
    held: frozenset[Place] = frozenset()
    """Children that this operator has seen, and did not remove."""
    unfit: Sequence[Problem] = ()
    """What it finds wrong with the templates, or the storage, of an attempt that is not made yet."""
    pods: Sequence[Object] = ()
    events: Sequence[Object] = ()
    report: Report | None = None
    silent_since: dt.datetime | None = None
    """Since when the server, whose pod is ready, says nothing; None while it speaks."""


@dataclass(frozen=True, slots=True)
class Note:
    """An Event about the job."""

    reason: str
    note: str
    type: Literal["Normal", "Warning"] = "Normal"


def changed(place: Place) -> Note:
    """An event about what somebody changed, and is again as it should be."""
    return Note("Repaired", f"{' '.join(place)} had been changed", "Warning")


@dataclass(frozen=True, slots=True)
class Create:
    """Make an object that is not there; one of somebody else's is left alone."""

    object: Object
    note: Note | None = None
    """What is told when it is done; so with the others."""


@dataclass(frozen=True, slots=True)
class Apply:
    """Make a child of ours what it should be again; with a note, where it seems that somebody changed it."""

    object: Object
    note: Note | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove an object of ours, its dependants first."""

    object: Object
    note: Note | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """Ask the server to end the job with this round, or with the open one where that is later."""

    last: int


Action = Create | Apply | Delete | Finish


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, in order; a status of None is left as it is; `again` is in seconds."""

    actions: tuple[Action, ...] = ()
    status: Object | None = None
    notes: tuple[Note, ...] = ()
    again: float | None = None
    trials: tuple[Trial, ...] = ()
    """What the API server is asked about first; where it finds anything wrong, it is decided again."""
    unclassed: Object | None = None
    """A claim of which it is asked first whether it gets a storage class."""


NOTHING: Final = Decision()


def steps(actions: Sequence[Action], *, most: int = MOST_AT_ONCE) -> Iterator[Sequence[Action]]:
    """What can be done at once, one step after another: an attempt is kept before anything is made of it, and what
    pods mount or are held back by is there before their Jobs.
    """
    for turn in range(3):
        own = [action for action in actions if _turn(action) == turn]
        yield from (own[start : start + most] for start in range(0, len(own), most))


def _turn(action: Action) -> int:
    match action:
        case Create(thing) if holds_attempt(thing):
            return 0
        case Create(thing) | Apply(thing) if thing["kind"] != "Job":
            return 1
    return 2
