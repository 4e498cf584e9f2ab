"""The answers of a cohort while they are waited for: who has reported, who is lost and why, and when it is over."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from fl_core.shortfall import DEADLINE, LEFT, STALLED


@dataclass(slots=True)
class Gathering:
    """Answers of a cohort: who has reported, who is lost, and when waiting ends."""

    cohort: frozenset[str]
    enough: int
    minimum: int
    stall: float
    deadline: float
    moved: dict[str, float]
    """When each of those last moved of whom something is still expected."""
    live: int = 0
    """How many could be chosen when somebody was last lost."""
    reported: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    _wake: float = 0.0

    @property
    def missing(self) -> Collection[str]:
        """Those of whom something is still expected."""
        return self.moved.keys()

    @property
    def hopeless(self) -> bool:
        """Whether the quorum cannot be reached any more."""
        return len(self.reported) + len(self.missing) < self.minimum

    def excused(self, before: Collection[str]) -> set[str]:
        """Who was told to end, if the quorum is missed for their sake only, and others are there for it.

        Nobody is twice: who comes back and goes again, as often as it likes, does not hold a round up for ever.
        """
        left = {worker for worker, reason in self.dropped.items() if reason == LEFT}.difference(before)
        with_them = len(self.reported) + len(self.missing) + len(left)
        return left if with_them >= self.minimum and self.live >= self.minimum else set()

    @property
    def over(self) -> bool:
        """Whether nothing more is waited for."""
        return len(self.reported) >= self.enough or not self.missing or self.hopeless

    def accepts(self, worker: str) -> bool:
        """Whether an answer of this worker is wanted."""
        return not self.over and worker in self.missing

    def report(self, worker: str) -> None:
        """A worker's whole answer has come."""
        del self.moved[worker]
        self.reported.append(worker)

    def drop(self, worker: str, reason: str) -> None:
        """Nothing more will come from this worker."""
        del self.moved[worker]
        self.dropped[worker] = reason

    def pass_time(self, now: float) -> None:
        """Give up those who have not moved for too long, and at the deadline everybody who is missing."""
        if now < self._wake:
            return
        for worker in sorted(self.missing):
            if now >= self.deadline:
                self.drop(worker, DEADLINE)
            elif now >= self.moved[worker] + self.stall:
                self.drop(worker, STALLED)
        self._wake = min([self.deadline, *(moved + self.stall for moved in self.moved.values())])

    def wake(self) -> float:
        """When `pass_time` is next worth calling; it is not looked for anew at each move, which only delays it."""
        return self._wake
