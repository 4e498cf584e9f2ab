"""Differential privacy at the server: what may be released of a sum, and the ledger in which it is charged first."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import structlog
from pydantic.alias_generators import to_snake

from fl_core.durable import Guard
from fl_core.errors import JobError, MismatchError, SpecError
from fl_core.plan import Plan
from fl_core.privacy.chain import Charge, Head, Opening
from fl_core.privacy.job import (
    adaptive_of,
    clip_of,
    costs_of,
    counting_of,
    mechanism_at,
    mechanism_of,
    opening_of,
    release_of,
    settings_of,
)
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.mechanisms import Release
from fl_core.privacy.stream import Random
from fl_core.secagg.summands import Summed
from fl_core.weights import Manifest, Weights
from fl_core.wire import fl_pb2 as pb

log = structlog.get_logger()

LEDGER = "privacy.jsonl"
"""The ledger's name in a job's storage."""

UPDATE = "update"
"""What is released in each round, and charged."""


class Sum(Protocol):
    """A round's updates added up, each with the weight 1."""

    @property
    def weight(self) -> int:
        """How many are in it."""
        ...

    def mean(self) -> Weights:
        """The mean of those who are in the sum."""
        ...


class Spent:
    """A released sum: what the next model is made from, and the clip norm of updates made from that; 0 if it stays."""

    def __init__(self, update: Weights, *, clip: float = 0.0) -> None:
        self.clip = clip
        self._update = update

    def mean(self) -> Weights:
        """The noisy sum over the fixed denominator."""
        return self._update


class Privacy:
    """One job's mechanism, its release once the model's shape is known, and its ledger once that is open."""

    def __init__(
        self,
        plan: Plan,
        path: Path,
        *,
        parents: Sequence[Path] = (),
        random: Random = os.urandom,
        within: Guard = nullcontext,
    ) -> None:
        self.path = path
        self._parents = parents
        self._within = within
        self.epsilon = 0.0
        self._plan = plan
        self._own = settings_of(plan)
        self._mechanism = mechanism_of(plan)
        self._opening = opening_of(plan)
        self._adversary = self._opening.adversary
        self._random = random
        self._ledger: Ledger | None = None
        self._release: Release | None = None
        self._charged = (0, 0)

    @classmethod
    def of(
        cls, plan: Plan, folder: Path, *, parents: Sequence[Path] = (), within: Guard = nullcontext
    ) -> Privacy | None:
        """The plan's, with its ledger in this folder, outside of the checkpoints; None where it has none.

        `parents` are the ledgers of the jobs that this one was forked from: what they released counts here too. A
        charge is made `within` what sees to it that no other process makes one.
        """
        if plan.privacy is None:
            return None
        return cls(plan, folder / LEDGER, parents=parents, within=within)

    @property
    def budget(self) -> float:
        """The most epsilon that may be spent."""
        return self._own.epsilon

    @property
    def at_workers(self) -> bool:
        """Whether what a worker hands in is a release already, so that it is charged before any is asked for."""
        return self._mechanism.noise == "worker"

    def open(self, seen: dict[str, Any] | None, *, begun: bool) -> None:
        """Begin the ledger, or go on with it; `seen` is the head that a checkpoint of a job that has `begun` knows.

        Raises JobError where what was spent cannot be known any more.
        """
        if begun and seen is None:
            raise MismatchError(
                f"the checkpoints beside {self.path} know of no ledger; they are of another plan"
            )
        if begun or self.path.exists():
            head = Head(int(seen["entries"]), str(seen["digest"])) if seen else None
            self._ledger = Ledger.open(self.path, seen=head, within=self._within)
        else:
            self._ledger = Ledger.create(self.path, self._opening, parents=self._parents, within=self._within)
        self._check_own(self._ledger.opening)
        spent = self._ledger.epsilon()
        self.epsilon, self._adversary = spent.epsilon, spent.adversary

    def _check_own(self, there: Opening) -> None:
        if there.model_copy(update={"parents": ()}) != self._opening:
            raise MismatchError(
                f"{self.path} is the ledger of job {there.job}, about other things than this job"
            )
        if self._parents and not there.parents:
            raise MismatchError(
                f"{self.path} was begun without the charges in {', '.join(map(str, self._parents))}; a fork counts "
                "them from its start: give it a storage of its own"
            )

    @property
    def head(self) -> dict[str, Any]:
        """What a checkpoint remembers of the ledger."""
        return {"entries": self._open.head.entries, "digest": self._open.head.digest}

    def settle(self, manifest: Manifest) -> None:
        """Settle the release for a model of this shape; SpecError where not one round fits into the budget."""
        self._release = release_of(self._plan, manifest)
        begun = any(one.job == self._plan.job.uid for one in self._open.charges)
        if not begun and (first := self._with_another()) > self._own.epsilon:
            parents = ", ".join(one.job for one in self._open.opening.parents)
            inherited = f" after the {self.epsilon:.3g} that {parents} spent" if parents else ""
            raise SpecError(
                f"spec.privacy.budget.epsilon: {self._own.epsilon:g} is less than the {first:.3g} that one round "
                f"costs{inherited}; expected more, or a larger spec.privacy.mechanism.noiseMultiplier"
            )

    def affords(self) -> bool:
        """Whether another release stays within the budget."""
        return self._with_another() <= self._own.epsilon

    def charge(self, round: int, attempt: int) -> bool:
        """Put the attempt's release on disk before it happens; False where that was done before."""
        if (round, attempt) == self._charged:
            return False
        charge = Charge(
            job=self._plan.job.uid,
            round=round,
            attempt=attempt,
            released=UPDATE,
            mechanism=self._own.mechanism,
            costs=costs_of(self._plan, self._settled),
        )
        self._open.charge(charge)
        self._charged = (round, attempt)
        self.epsilon = self._open.epsilon().epsilon
        log.info("charged", epsilon=round_to(self.epsilon), budget=self._own.epsilon)
        return True

    def clip(self, moved: float = 0.0) -> float:
        """The clip norm in force, where the model's is `moved`."""
        return clip_of(self._plan, moved) or self._mechanism.clip

    def released(self, total: Sum, *, clip: float = 0.0) -> Spent:
        """The sum as it may be seen, over the fixed denominator; its charge must be on disk.

        `clip` is the norm that went with the model; the next one follows from it and the votes.
        """
        if self._charged == (0, 0):
            raise JobError("a sum is to be released that was not charged")
        sums = {name: array * float(total.weight) for name, array in total.mean().items()}
        if not self.at_workers:  # the mechanism's whole numbers, which a mean in float64 has not lost
            sums = {name: np.rint(array).astype(np.int64) for name, array in sums.items()}
        mechanism, cohort = mechanism_at(self._plan, clip), self._plan.selection.per_round
        noisy = mechanism.on_server(sums, self._settled, self._random)
        mean = {name: array / cohort for name, array in noisy.items()}
        return Spent(mean, clip=self._next_clip(total, clip_of(self._plan, clip)))

    def _next_clip(self, total: Sum, clip: float) -> float:
        """From the votes in the same sum, with noise of their own; 0 where the norm does not move."""
        adaptive = adaptive_of(self._plan)
        if adaptive is None:
            return 0.0
        if not isinstance(total, Summed):
            raise JobError("votes on the clip norm are counted in secure sums only (spec.secureAggregation)")
        votes = counting_of(self._plan).vote_on_server(
            total.votes, variance=adaptive.votes_variance, random=self._random
        )
        return adaptive.step(clip, votes, cohort=self._plan.selection.per_round)

    @property
    def facts(self) -> dict[str, Any]:
        """Epsilon with all that it depends on, for the record of a round."""
        return {
            "epsilon": self.epsilon,
            "delta": self._own.delta,
            "budget": self._own.epsilon,
            "unit": self._own.unit,
            "neighbours": str(self._opening.neighbours),
            "adversary": self._adversary,
            "epsilonCovers": "modelOnly" if self._own.measured else "everything",
        }

    @property
    def standing(self) -> pb.Privacy:
        """The same for those who watch."""
        return pb.Privacy(**{to_snake(name): fact for name, fact in self.facts.items()})

    def farewell(self, done: int) -> str:
        """Why the job ends before its last round."""
        return (
            f"epsilon {self.epsilon:.3g} of {self._own.epsilon:g} is spent after {done} of {self._plan.rounds} rounds; "
            f"another would make it {self._with_another():.3g}"
        )

    def _with_another(self) -> float:
        return self._open.epsilon(further=costs_of(self._plan, self._settled)).epsilon

    @property
    def _open(self) -> Ledger:
        if self._ledger is None:
            raise JobError("the privacy ledger is not open")
        return self._ledger

    @property
    def _settled(self) -> Release:
        if self._release is None:
            raise JobError("nothing can be released before there is a model")
        return self._release


def round_to(value: float) -> float:
    """A figure for logs."""
    return float(f"{value:.6g}")
