"""Mechanisms: who adds which noise, and what a round of it costs; one file each, named by its YAML word.

| word     | noise is added by | and protects from                                              | unit    |
| -------- | ----------------- | -------------------------------------------------------------- | ------- |
| gaussian | the server        | everyone but the server                                        | worker  |
| skellam  | the workers, together | the server too, and corrupt workers, under secure aggregation | worker  |
| local    | each worker       | everyone, whatever all others do                               | worker  |
| dp_sgd   | each worker, on gradients | everyone, whatever all others do                       | example |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

from fl_core.privacy.costs import Cost, Unit
from fl_core.privacy.rounding import Sensitivity
from fl_core.privacy.stream import Random
from fl_core.weights import Weights


@dataclass(frozen=True, slots=True)
class Release:
    """What is settled for a round before anybody trains, equal for all of its workers.

    `dimension` is the number of values in an update; `units` how many whole units a norm of `clip` is; `honest` how
    many survivors are surely honest: t - c with secure aggregation, 1 without.
    """

    dimension: int
    units: int
    honest: int = 1

    @property
    def sensitivity(self) -> Sensitivity:
        """By how much one worker's rounded update changes the sum."""
        return Sensitivity.of(units=self.units, dimension=self.dimension)

    def variance(self, noise_multiplier: float) -> int:
        """The variance of the noise on the sum in squared units, a whole number, rounded up."""
        return math.ceil(noise_multiplier**2 * self.sensitivity.l2_squared)


Noise = Literal["server", "workers", "worker"]
"""Who makes the noise: the server; the workers together, so that only their sum may be seen; or each worker alone."""


class Mechanism(Protocol):
    """Both ends of one idea and its cost; the adaptive clip norm makes a new one with another `clip` each round."""

    unit: ClassVar[Unit]
    noise: ClassVar[Noise]
    adversary: ClassVar[str]
    """Against whom the epsilon of `cost` holds; `{server}` stands for the server that secure sums withstand."""

    @property
    def clip(self) -> float:
        """The greatest L2 norm of what one unit adds."""
        ...

    @property
    def noise_multiplier(self) -> float:
        """The noise's standard deviation over the sensitivity."""
        ...

    def on_worker(self, update: Weights, release: Release, random: Random) -> Weights:
        """What a worker hands in: whole numbers where the noise is discrete."""
        ...

    def on_server(self, total: Weights, release: Release, random: Random) -> Weights:
        """The sum as it may be released, in the units of the model, from the sum of what the workers handed in."""
        ...

    def cost(self, release: Release) -> Cost:
        """What a round costs."""
        ...


@runtime_checkable
class Counting(Protocol):
    """A mechanism that can also release a count of votes, to which each worker adds a number from -1 to 1.

    `variance` is that of the noise on the count, whose sensitivity is 1.
    """

    def vote_on_worker(self, vote: int, release: Release, *, variance: int, random: Random) -> int:
        """What a worker hands in of its vote."""
        ...

    def vote_on_server(self, votes: int, *, variance: int, random: Random) -> int:
        """The count as it may be released, from the sum of what the workers handed in."""
        ...

    def vote_cost(self, variance: int) -> Cost:
        """What the count costs."""
        ...
