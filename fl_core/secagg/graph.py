"""Who shares masks and secrets with whom.

Few members: everybody with everybody. Many: each with `degree` others on a ring of random order (Bell, Bonawitz,
Gascon, Lepoint and Raykova, "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead", 2020,
https://eprint.iacr.org/2020/704). Such a Harary graph stays connected unless `degree` members are removed in two
runs on the ring, so a random order is all that is needed against members who do not choose their places.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from fl_core.errors import SpecError
from fl_core.secagg.encoding import digest


@dataclass(frozen=True)
class Graph:
    """A regular graph on a ring: each member's neighbours are the `degree` nearest, the opposite one if that is odd.

    `order` lists the members 0 to n - 1 as they stand on the ring.
    """

    degree: int
    order: tuple[int, ...] = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse sizes that no connected regular graph has."""
        if not min(2, self.n - 1) <= self.degree < self.n or self.n * self.degree % 2:
            raise SpecError(
                f"no ring of {self.n} members gives each {self.degree} neighbours; "
                "the degree must be from 2 to n - 1, and even where n is odd"
            )

    @property
    def n(self) -> int:
        """Number of members."""
        return len(self.order)

    def neighbours(self, member: int) -> tuple[int, ...]:
        """The members with whom this one shares, in order; it is a neighbour of each of them."""
        place = self._places[member]
        reach = self.degree // 2
        steps = [*range(-reach, 0), *range(1, reach + 1)] + [self.n // 2] * (self.degree % 2)
        return tuple(sorted(self.order[(place + step) % self.n] for step in steps))

    @cached_property
    def _places(self) -> dict[int, int]:
        return {member: place for place, member in enumerate(self.order)}


def regular(n: int, degree: int, *, seed: bytes) -> Graph:
    """Each with `degree` others, in an order that follows from the seed: every member computes the same graph.

    Members are sorted by the hash of seed and number, so that all orders are equally likely.
    """
    return Graph(degree, tuple(sorted(range(n), key=lambda member: digest("place", seed, member))))
