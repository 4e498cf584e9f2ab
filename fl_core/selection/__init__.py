"""Which live workers a round asks: one file per policy, named by its YAML word."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol


class Policy(Protocol):
    """A pure choice."""

    def choose(self, candidates: Sequence[str], count: int, randomness: random.Random) -> list[str]:
        """`count` of the candidates (sorted, at least `count` of them), by the randomness passed in."""
        ...
