"""Local differential privacy: each worker adds all the noise that it needs itself, and trusts nobody.

Dwork, Roth, The Algorithmic Foundations of Differential Privacy, 2014, appendix A. The sum of n workers holds n times
the variance that the other mechanisms add, which is much noise for few workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from fl_core.privacy.clipping import clip
from fl_core.privacy.costs import Cost, GaussianCost, Unit
from fl_core.privacy.mechanisms import Noise, Release
from fl_core.privacy.noise import noised
from fl_core.privacy.stream import Random, Stream
from fl_core.weights import Weights

__all__ = ["Local"]


@dataclass(frozen=True, slots=True)
class Local:
    """Workers clip and add normal noise; what they hand in is private already."""

    unit: ClassVar[Unit] = "worker"
    noise: ClassVar[Noise] = "worker"
    adversary: ClassVar[str] = "everyone, the server and all other workers included"

    clip: Annotated[float, Field(gt=0, description="The greatest L2 norm of a worker's update.")]
    noise_multiplier: Annotated[
        float, Field(ge=1e-3, le=1e9, description="Standard deviation over `clip`, of each update.")
    ]

    def on_worker(self, update: Weights, release: Release, random: Random) -> Weights:
        """Clip, add the noise, and round to the grid; float64."""
        del release
        stream = Stream(random)
        short, _ = clip(update, most=self.clip)
        deviation = self.noise_multiplier * self.clip
        return {name: noised(array, deviation=deviation, stream=stream) for name, array in short.items()}

    def on_server(self, total: Weights, release: Release, random: Random) -> Weights:
        """Nothing is left to do."""
        del release, random
        return total

    def cost(self, release: Release) -> Cost:
        """The same for every release."""
        del release
        return GaussianCost(noise_multiplier=self.noise_multiplier)
