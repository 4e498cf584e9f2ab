"""Whom a round asks: the same candidates, seed, round and number of the draw give the same cohort."""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fl_core.extensions import blamed
from fl_core.secagg.buckets import Buckets, shares
from fl_core.selection import Policy

MOST_NAMED = 16
"""How many of those whom a round did not choose are named: a record of 10,000 workers stays short."""

ONE = Buckets("")
"""No groups: all workers are in the one bucket."""


class Draw:
    """A job's cohorts, drawn by its policy from its seed, from each bucket an equal share."""

    def __init__(self, policy: Policy, *, seed: int, buckets: Buckets = ONE) -> None:
        self._policy = policy
        self._seed = seed
        self._buckets = buckets

    def cohort(self, candidates: Sequence[str], count: int, *, round: int, number: int) -> list[str]:
        """So many of the candidates, who come in the order of their numbers; JobError where the policy is at fault."""
        seed = hashlib.sha256(f"{self._seed}/selection/{round}/{number}".encode()).digest()
        randomness = random.Random(seed)  # noqa: S311 - replayable on purpose
        groups: dict[int, list[str]] = {}
        for name in candidates:
            groups.setdefault(self._buckets.of(by_number(name)[1]), []).append(name)
        taken = shares({bucket: len(some) for bucket, some in groups.items()}, count)
        return [name for bucket in taken for name in self._chosen(groups[bucket], taken[bucket], randomness)]

    def _chosen(self, candidates: list[str], count: int, randomness: random.Random) -> list[str]:
        with blamed(self._policy):
            chosen = self._policy.choose(candidates, count, randomness)
            if strangers := set(chosen).difference(candidates):
                raise ValueError(f"it chose {', '.join(sorted(map(str, strangers)))}, who is no candidate")
        return chosen


@dataclass(frozen=True, slots=True)
class Others:
    """Of whom a cohort was chosen: how many attended, and were away; some of those not chosen, and of those away."""

    live: int
    passed_over: tuple[str, ...]
    away: int
    absent: tuple[str, ...]

    @classmethod
    def of(cls, cohort: Collection[str], *, live: Collection[str], expected: Sequence[str]) -> Others:
        """Those who are not in the cohort, by who attends and who was to."""
        passed_over = heapq.nsmallest(MOST_NAMED, set(live).difference(cohort), key=by_number)
        away = [name for name in expected if name not in live]
        return cls(len(live), tuple(passed_over), len(away), tuple(away[:MOST_NAMED]))


def by_number(worker: str) -> tuple[str, int]:
    """The key that sorts worker-10 after worker-9."""
    role, _, index = worker.rpartition("-")
    return (role, int(index)) if index.isdigit() else (worker, 0)
