"""Central differential privacy: a server that is trusted adds discrete Gaussian noise to the sum.

McMahan, Ramage, Talwar, Zhang, Learning Differentially Private Recurrent Language Models, ICLR 2018, with the noise
of Canonne, Kamath, Steinke, The Discrete Gaussian for Differential Privacy, NeurIPS 2020, on whole numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from fl_core.privacy.clipping import clip
from fl_core.privacy.costs import Cost, GaussianCost, Unit
from fl_core.privacy.mechanisms import Noise, Release
from fl_core.privacy.noise import discrete_gaussian
from fl_core.privacy.rounding import rounded
from fl_core.privacy.stream import Random, Stream
from fl_core.weights import Weights

__all__ = ["Gaussian"]


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Workers clip and round; the server adds the noise to the sum before anybody else sees it."""

    unit: ClassVar[Unit] = "worker"
    noise: ClassVar[Noise] = "server"
    adversary: ClassVar[str] = (
        "everyone who sees the models; the server is trusted, it sees the sum without noise"
    )

    clip: Annotated[float, Field(gt=0, description="The greatest L2 norm of a worker's update.")]
    noise_multiplier: Annotated[
        float, Field(ge=1e-3, le=1e9, description="Standard deviation over sensitivity.")
    ]

    def on_worker(self, update: Weights, release: Release, random: Random) -> Weights:
        """Clip, and round to whole units."""
        short, _ = clip(update, most=self.clip)
        scale = release.units / self.clip
        return rounded(short, scale=scale, most=release.sensitivity, stream=Stream(random))

    def on_server(self, total: Weights, release: Release, random: Random) -> Weights:
        """Add the noise, and turn units into values."""
        stream, variance = Stream(random), release.variance(self.noise_multiplier)
        unit = self.clip / release.units
        return {
            name: (
                array + discrete_gaussian(array.size, variance=variance, stream=stream).reshape(array.shape)
            )
            * unit
            for name, array in total.items()
        }

    def cost(self, release: Release) -> Cost:
        """The same for every release: the noise grows with the sensitivity."""
        del release
        return GaussianCost(noise_multiplier=self.noise_multiplier)

    def vote_on_worker(self, vote: int, release: Release, *, variance: int, random: Random) -> int:
        """The vote itself: nobody but the server sees even their sum."""
        del release, variance, random
        return vote

    def vote_on_server(self, votes: int, *, variance: int, random: Random) -> int:
        """Add the noise."""
        return votes + int(discrete_gaussian(1, variance=variance, stream=Stream(random))[0])

    def vote_cost(self, variance: int) -> Cost:
        """One number of sensitivity 1."""
        return GaussianCost(noise_multiplier=math.sqrt(variance))
