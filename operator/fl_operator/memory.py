"""What one process remembers of a job."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fl_operator.actions import Place, place_of
from fl_operator.cluster.resources import Object, Resource
from fl_operator.drift import differs, projected, respelled


@dataclass(slots=True)
class Memory:
    """What one process remembers of a job; losing it costs a few reads."""

    taken: dict[Place, Resource] = field(default_factory=dict)
    """Names that somebody else's objects have, which no copy shows."""
    attempt: int = 0
    missing: frozenset[Place] = frozenset()
    """Children of this attempt that it has not seen yet, or did remove: none of most jobs, of which there are many."""
    refused: dict[Place, str] = field(default_factory=dict)
    accepted: dict[Place, tuple[Object, Any]] = field(default_factory=dict)
    """What is wanted, and how the API server writes it where that is something else."""
    written: float = float("-inf")
    """When the status was written last."""

    def held(self, attempt: int, places: Iterable[Place], *, alive: frozenset[Place]) -> frozenset[Place]:
        """The children of an attempt, of which these are `alive`, that it has seen by now and did not remove."""
        every = frozenset(places)
        if attempt != self.attempt:
            self.attempt, self.missing = attempt, every
        self.missing &= every - alive
        return every - self.missing

    def remove(self, place: Place) -> None:
        """This child will be missing, and nobody else's doing it is."""
        self.missing |= {place}

    def accept(self, wanted: Object, written: Object) -> None:
        """Remember how the API server writes a child."""
        place = place_of(wanted)
        self.accepted.pop(place, None)
        if differs(wanted, written):
            self.accepted[place] = (wanted, projected(wanted, written))

    def as_wanted(self, live: Object) -> Object:
        """A live child with our own way of writing in the place of the API server's."""
        known = self.accepted.get(place_of(live))
        return live if known is None else respelled(live, *known)
