"""Distributed differential privacy: every worker adds a share of the noise, and nobody ever sees a sum without it.

Agarwal, Kairouz, Liu, The Skellam Mechanism for Differentially Private Federated Learning, NeurIPS 2021. It needs
secure aggregation: a share alone is too little noise for the update that it is added to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from fl_core.privacy.clipping import clip
from fl_core.privacy.costs import Cost, SkellamCost, Unit
from fl_core.privacy.mechanisms import Noise, Release
from fl_core.privacy.noise import share, skellam
from fl_core.privacy.rounding import rounded
from fl_core.privacy.stream import Random, Stream
from fl_core.weights import Weights

__all__ = ["Skellam"]


@dataclass(frozen=True, slots=True)
class Skellam:
    """Workers clip, round and add their share of the noise; secure aggregation shows the sum only."""

    unit: ClassVar[Unit] = "worker"
    noise: ClassVar[Noise] = "workers"
    adversary: ClassVar[str] = (
        "everyone, {server} and as many corrupt workers as secure aggregation tolerates included"
    )

    clip: Annotated[float, Field(gt=0, description="The greatest L2 norm of a worker's update.")]
    noise_multiplier: Annotated[
        float, Field(ge=1e-3, le=1e9, description="Standard deviation over sensitivity, of the sum.")
    ]

    def on_worker(self, update: Weights, release: Release, random: Random) -> Weights:
        """Clip, round to whole units, and add the share of the noise."""
        stream = Stream(random)
        short, _ = clip(update, most=self.clip)
        whole = rounded(short, scale=release.units / self.clip, most=release.sensitivity, stream=stream)
        variance = share(release.variance(self.noise_multiplier), release.honest)
        return {
            name: array + skellam(array.size, variance=variance, stream=stream).reshape(array.shape)
            for name, array in whole.items()
        }

    def on_server(self, total: Weights, release: Release, random: Random) -> Weights:
        """Turn units into values: the noise is in the sum already."""
        del random
        return {name: array * (self.clip / release.units) for name, array in total.items()}

    def cost(self, release: Release) -> Cost:
        """A little more than Gaussian noise costs, and less so the finer the units are."""
        most = release.sensitivity
        variance = float(release.variance(self.noise_multiplier))
        return SkellamCost(variance=variance, l1=most.l1, l2_squared=most.l2_squared)

    def vote_on_worker(self, vote: int, release: Release, *, variance: int, random: Random) -> int:
        """Add the share of the noise."""
        part = share(variance, release.honest)
        return vote + int(skellam(1, variance=part, stream=Stream(random))[0])

    def vote_on_server(self, votes: int, *, variance: int, random: Random) -> int:
        """The noise is in the sum already."""
        del variance, random
        return votes

    def vote_cost(self, variance: int) -> Cost:
        """One whole number of sensitivity 1."""
        return SkellamCost(variance=float(variance), l1=1, l2_squared=1)
