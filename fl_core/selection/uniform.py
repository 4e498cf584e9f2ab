"""Uniform selection: every live worker is equally likely."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Uniform"]


@dataclass(frozen=True, slots=True)
class Uniform:
    """A sample without replacement."""

    def choose(self, candidates: Sequence[str], count: int, randomness: random.Random) -> list[str]:
        """`count` of the candidates, by the randomness passed in."""
        return sorted(randomness.sample(list(candidates), count))
