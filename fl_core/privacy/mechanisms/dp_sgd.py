"""DP-SGD: each worker's training is private for each of its examples.

Abadi et al., Deep Learning with Differential Privacy, CCS 2016. Two things are often done otherwise and are not
covered by the epsilon then: here every example is in a batch by a private coin of its own (no shuffled, fixed-size
batches), and the sum is divided by the expected size of a batch (the true one would tell how many were drawn).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from fl_core.errors import UpdateError
from fl_core.privacy.clipping import Doubles, clipped_sum
from fl_core.privacy.costs import Cost, SampledGaussianCost, Unit
from fl_core.privacy.mechanisms import Noise, Release
from fl_core.privacy.noise import noised
from fl_core.privacy.stream import BLOCK, Random, Stream
from fl_core.weights import Weights

__all__ = ["DpSgd"]


@dataclass(frozen=True, slots=True)
class DpSgd:
    """Workers sample examples, clip each one's gradient and add noise in every step of their training.

    The cost counts the steps of one round of one worker. Workers with different examples do not add up: an example
    is only in the data of one.
    """

    unit: ClassVar[Unit] = "example"
    noise: ClassVar[Noise] = "worker"
    adversary: ClassVar[str] = (
        "everyone who sees a worker's updates, the server and all other workers included"
    )

    clip: Annotated[float, Field(gt=0, description="The greatest L2 norm of an example's gradient.")]
    noise_multiplier: Annotated[
        float, Field(ge=1e-3, le=1e9, description="Standard deviation over `clip`, in each step.")
    ]
    rate: Annotated[float, Field(gt=0, le=1, description="With which probability an example is in a batch.")]
    steps: Annotated[int, Field(ge=1, description="Of training, in each round.")]
    learning_rate: Annotated[float, Field(gt=0, description="Of each step along the noisy mean gradient.")]

    def sample(self, examples: int, random: Random) -> npt.NDArray[np.int64]:
        """The places of a step's examples, each in with probability `rate`, rounded down to a multiple of 2^-64."""
        stream, threshold = Stream(random), int(self.rate * 2.0**64)
        if threshold == 1 << 64:
            return np.arange(examples)
        chosen = []
        for start in range(0, examples, BLOCK):
            words = stream.words(min(BLOCK, examples - start))
            chosen.append(start + np.flatnonzero(words < np.uint64(threshold)))
        return np.concatenate(chosen) if chosen else np.arange(0)

    def gradient(self, gradients: Weights, *, examples: int, random: Random) -> dict[str, Doubles]:
        """The private mean gradient of one step, from those of the sampled examples ([batch, ...], maybe none).

        `examples` is the number of the worker's examples, which counts as known.
        """
        if examples < 1:
            raise UpdateError(
                f"a worker with {examples} examples has nothing to train on; it needs at least one"
            )
        stream, deviation = Stream(random), self.noise_multiplier * self.clip
        expected = self.rate * examples
        return {
            name: noised(total, deviation=deviation, stream=stream) / expected
            for name, total in clipped_sum(gradients, most=self.clip).items()
        }

    def on_worker(self, update: Weights, release: Release, random: Random) -> Weights:
        """Nothing is left to do: the noise is in every gradient that made the update."""
        del release, random
        return update

    def on_server(self, total: Weights, release: Release, random: Random) -> Weights:
        """Nothing is left to do."""
        del release, random
        return total

    def cost(self, release: Release) -> Cost:
        """The steps of one round."""
        del release
        return SampledGaussianCost(noise_multiplier=self.noise_multiplier, rate=self.rate, steps=self.steps)
