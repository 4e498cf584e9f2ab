"""How the updates of a round become one: one file per rule, named by its YAML word.

A rule either takes the finished exact sum (`combine`) and never sees a single update, or it
defines `reduce` and sees them all; the second kind is refused together with secure aggregation.
"""

from __future__ import annotations

from typing import Protocol

from fl_core.weights import Weights


class Sum(Protocol):
    """A round's updates added up, each times its weight."""

    def mean(self) -> Weights:
        """The weighted mean as float64 arrays."""
        ...


class Rule(Protocol):
    """A rule that needs only the sum."""

    def combine(self, total: Sum) -> Weights:
        """One update that stands for all."""
        ...
