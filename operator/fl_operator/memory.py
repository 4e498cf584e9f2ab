"""What one process remembers of a job."""

from __future__ import annotations

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
    held: set[Place] = field(default_factory=set)
    """Children that it has seen, and did not remove."""
    refused: dict[Place, str] = field(default_factory=dict)
    accepted: dict[Place, tuple[Object, Any]] = field(default_factory=dict)
    """What is wanted, and how the API server writes it where that is something else."""
    written: float = float("-inf")
    """When the status was written last."""

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
