"""What the user is told of workers that have nothing to hand in: each once, with the reason and where to look."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from fl_core.plan import Plan
from job_generator.local.observer import Observation
from job_generator.local.rounds import why

ENDED = ("gone", "no heartbeat", "the program raised")
"""How these reasons begin, of which the supervisor knows more: it sees the process end."""


class Losses:
    """The workers of one run of whom it was told already."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self._folder = folder
        self._plan = plan
        self._told: set[str] = set()

    def news(self, observation: Observation) -> Iterable[str]:
        """A sentence for each worker that was lost for the first time."""
        standing = observation.standing
        lost = {
            worker: (one.round, said) for one in observation.closed for worker, said in one.losses.items()
        }
        lost |= {worker: (standing.round, said) for worker, said in standing.dropped.items()}
        for worker, (number, said) in sorted(lost.items()):
            if worker not in self._told and not said.startswith(ENDED):
                self._told.add(worker)
                yield self._sentence(worker, number, said)

    def _sentence(self, worker: str, number: int, said: str) -> str:
        reason = said.rstrip(".") if said.startswith(worker) else why(said, self._plan)
        log = f"fl-submit logs {shlex.quote(str(self._folder))} --role {worker}"
        return f"Without {worker} in round {number}: {reason}. Its log: {log}"
