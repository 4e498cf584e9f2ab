"""Randomness that is the same in every run, and the figures that several tests judge by."""

from __future__ import annotations

from collections.abc import Callable
from random import Random as Seeded
from typing import Any

import numpy as np
import pytest

from fl_core.privacy.stream import Random, Stream


@pytest.fixture(scope="session")
def chance() -> Callable[[int], Random]:
    """`chance(7)` gives so many bytes, the same in every run."""
    return lambda seed: Seeded(seed).randbytes


@pytest.fixture(scope="session")
def stream(chance: Callable[[int], Random]) -> Callable[[int], Stream]:
    """`stream(7)` gives words, the same in every run."""
    return lambda seed: Stream(chance(seed))


@pytest.fixture(scope="session")
def misfit() -> Callable[..., float]:
    """How unlikely draws are under a law (chi-squared, one-sided p-value): `misfit(draws, {value: probability})`.

    Values that are expected less than ten times count together.
    """
    from scipy.stats import chisquare  # noqa: PLC0415 - a second that not every test needs

    def judged(draws: Any, law: dict[int, float]) -> float:
        values, seen = np.unique(draws, return_counts=True)
        counts = dict(zip(values.tolist(), seen.tolist(), strict=True))
        common = {value: p for value, p in law.items() if p * len(draws) >= 10}
        expected = [p * len(draws) for p in common.values()]
        observed = [counts.get(value, 0) for value in common]
        rest = len(draws) - sum(observed)
        return float(chisquare([*observed, rest], [*expected, len(draws) - sum(expected)]).pvalue)

    return judged
