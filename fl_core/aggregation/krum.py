"""Krum: the one part that lies closest to most others.

Blanchard, El Mhamdi, Guerraoui and Stainer, Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent,
NeurIPS 2017 (https://arxiv.org/abs/1703.02757), section 4. Where two score the same they say to take the one with the
smaller number; here it is the one whose bytes come first, so that the parts' order does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from fl_core.aggregation import BLOCK
from fl_core.weights import Weights

__all__ = ["Krum"]


@dataclass(frozen=True, slots=True)
class Krum:
    """The part whose nearest others, the hostile not counted, are the nearest; it drops what all others learned."""

    hostile: Annotated[int, Field(ge=0, le=100_000, description="How many workers may be hostile.")]

    @property
    def fewest(self) -> int:
        """Three more than twice the hostile."""
        return 2 * self.hostile + 3

    def reduce(self, parts: Sequence[Weights]) -> Weights:
        """The part with the smallest sum of squared distances to its len(parts) - hostile - 2 nearest others."""
        near = max(1, len(parts) - self.hostile - 2)
        away = _distances(parts)
        scores = [_total(sorted(row[:own] + row[own + 1 :])[:near]) for own, row in enumerate(away)]
        best = min(scores)
        tied = [part for part, score in zip(parts, scores, strict=True) if score == best]
        chosen = min(tied, key=_bytes) if len(tied) > 1 else tied[0]
        return {name: np.asarray(array, np.float64) for name, array in chosen.items()}


def _distances(parts: Sequence[Weights]) -> list[list[float]]:
    """The squared Euclidean distances, each way the same to the bit; infinite where they are beyond float64."""
    away = [[0.0] * len(parts) for _ in parts]
    for one in range(len(parts)):
        for other in range(one):
            away[one][other] = away[other][one] = _distance(parts[one], parts[other])
    return away


def _distance(one: Weights, other: Weights) -> float:
    squares = []
    for name, array in one.items():
        left, right = np.asarray(array).reshape(-1), np.asarray(other[name]).reshape(-1)
        for start in range(0, left.size, BLOCK):
            here = slice(start, start + BLOCK)
            with np.errstate(over="ignore"):
                apart = np.subtract(left[here], right[here], dtype=np.float64)
                squares.append(float(np.square(apart).sum()))
    return _total(squares)


def _total(values: Sequence[float]) -> float:
    """The exact sum, rounded once; infinite where that is beyond float64."""
    try:
        return math.fsum(values)
    except OverflowError:
        return math.inf


def _bytes(part: Weights) -> bytes:
    return b"".join(np.asarray(array, np.float64).tobytes() for array in part.values())
