"""In which rounds each worker's update went into the model: what its stages remember goes on from the last of these.

Where the server goes back to a checkpoint, that is the last one before it; so a worker keeps one for each.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from fl_core.plan import Plan
from fl_core.record import COMMITTED


class Counted:
    """By worker, as far back as to the oldest of the `checkpoints`, which are told by their rounds."""

    def __init__(self, plan: Plan) -> None:
        self.checkpoints: Collection[int] = ()
        self._is_asked = bool(plan.compression)
        self._rounds: dict[str, list[int]] = {}

    def restore(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take up the lines of the record that stand, in order."""
        for row in rows if self._is_asked else ():
            if row["result"] == COMMITTED:
                self.add(row["round"], row["reporters"])

    def add(self, round: int, reporters: Iterable[str]) -> None:
        """The model of this round has these workers' updates; nothing is noted where no stage could remember it."""
        for worker in reporters if self._is_asked else ():
            self._rounds.setdefault(worker, []).append(round)

    def of(self, worker: str) -> tuple[int, ...]:
        """For each checkpoint the last of the worker's rounds before it or its own, and the newest; in order."""
        if not (rounds := self._rounds.get(worker)):
            return ()
        before = {bisect(rounds, number) for number in self.checkpoints} | {len(rounds)}
        needed = self._rounds[worker] = [rounds[place - 1] for place in sorted(before) if place]
        return tuple(needed)
