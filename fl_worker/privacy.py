"""Differential privacy at a worker: what leaves it of an update, and that nothing else does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from fl_core.plan import Plan
from fl_core.privacy.clipping import norm
from fl_core.privacy.job import WIRE, adaptive_of, clip_of, counting_of, mechanism_at, release_of
from fl_core.privacy.stream import Random
from fl_core.weights import Array, Manifest, Weights


@dataclass(frozen=True, slots=True)
class Privacy:
    """The job's mechanism, as each update of this worker goes through it; private randomness, whatever the seed is."""

    plan: Plan
    random: Random = os.urandom

    @classmethod
    def of(cls, plan: Plan) -> Self | None:
        """The plan's; None where it has no differential privacy."""
        return cls(plan) if plan.privacy is not None else None

    @property
    def measured(self) -> bool:
        """Whether this worker may hand in what it measures, without noise."""
        return self.plan.privacy is None or self.plan.privacy.measured

    def concealed(self, update: Weights, *, clip: float = 0.0) -> Mapping[str, Array]:
        """What is handed in instead: clipped, and with this worker's part of the noise; `clip` came with the model.

        No update is refused for its values, which would tell of them without noise.
        For a sum in the clear it is rounded to what travels there; whole numbers are exact in it.
        """
        release = release_of(self.plan, Manifest.of(update))
        mechanism = mechanism_at(self.plan, clip_of(self.plan, clip))
        made = mechanism.on_worker(update, release, self.random)
        if self.plan.secure_aggregation is not None:
            return made
        return {name: array.astype(WIRE) for name, array in made.items()}

    def vote(self, update: Weights, *, clip: float = 0.0) -> int:
        """What is added to the votes on the clip norm; 0 where it does not move."""
        if (adaptive := adaptive_of(self.plan)) is None:
            return 0
        own = adaptive.vote(norm(update), clip_norm=clip_of(self.plan, clip))
        return counting_of(self.plan).vote_on_worker(
            own,
            release_of(self.plan, Manifest.of(update)),
            variance=adaptive.votes_variance,
            random=self.random,
        )
