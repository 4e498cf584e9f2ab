"""The shares of those who survive make the noise; nobody's share alone is meant to suffice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from fl_core.privacy.costs import SkellamCost
from fl_core.privacy.mechanisms import Release
from fl_core.privacy.mechanisms.skellam import Skellam
from fl_core.privacy.rounding import Sensitivity
from fl_core.privacy.stream import Random

MECHANISM = Skellam(clip=1.0, noise_multiplier=1.5)
THRESHOLD, CORRUPT = 7, 2
RELEASE = Release(dimension=30_000, units=1400, honest=THRESHOLD - CORRUPT)
ZEROS = {"w": np.zeros(30_000, "f4")}


def variance_of(survivors: int, chance: Callable[[int], Random]) -> float:
    total = sum(MECHANISM.on_worker(ZEROS, RELEASE, chance(seed))["w"] for seed in range(survivors))
    return float(np.var(total))


def test_exactly_t_survivors_of_whom_c_cheat_make_the_whole_noise(chance: Callable[[int], Random]) -> None:
    """The noise of t - c workers, measured, is what is charged for, within what 30,000 values can tell."""
    charged = MECHANISM.cost(RELEASE)
    assert isinstance(charged, SkellamCost)
    measured = variance_of(THRESHOLD - CORRUPT, chance)
    low, high = stats.chi2.ppf([1e-5, 1 - 1e-5], 30_000) / 30_000
    assert charged.variance * low < measured < charged.variance * high
    assert variance_of(THRESHOLD, chance) == pytest.approx(charged.variance * 7 / 5, rel=0.05)


def test_one_survivor_less_would_be_too_little(chance: Callable[[int], Random]) -> None:
    """With t - c - 1 honest survivors the noise falls short of the charge: the threshold is what it rests on."""
    assert variance_of(THRESHOLD - CORRUPT - 1, chance) < 0.85 * RELEASE.variance(1.5)


def test_the_sum_comes_out(chance: Callable[[int], Random]) -> None:
    """With the same noise under zeros and under updates, the released sums differ by the updates' sum."""
    released = []
    for update in (ZEROS, {"w": np.full(30_000, 0.003)}):
        total = sum(MECHANISM.on_worker(update, RELEASE, chance(seed))["w"] for seed in range(7))
        released.append(MECHANISM.on_server({"w": total}, RELEASE, chance(0))["w"])
        assert np.abs(released[-1] * 1400 - total).max() < 1e-6
    assert np.mean(released[1] - released[0]) == pytest.approx(7 * 0.003, rel=1e-3)


def test_the_charge_names_both_sensitivities() -> None:
    """L1 and squared L2 norm after conditional rounding, and the variance for them."""
    most = Sensitivity.of(units=1400, dimension=30_000)
    cost = MECHANISM.cost(RELEASE)
    assert cost == SkellamCost(variance=float(RELEASE.variance(1.5)), l1=most.l1, l2_squared=most.l2_squared)
    assert RELEASE.variance(1.5) >= 1.5**2 * most.l2_squared


def test_the_shares_of_votes_make_their_noise(chance: Callable[[int], Random]) -> None:
    """What t - c workers add to the count has the variance that is charged for; the server adds none."""
    honest = THRESHOLD - CORRUPT
    counts = [
        sum(
            MECHANISM.vote_on_worker(1, RELEASE, variance=36, random=chance(honest * trial + worker))
            for worker in range(honest)
        )
        for trial in range(600)
    ]
    assert np.mean(counts) == pytest.approx(honest, abs=5 * 6 / 600**0.5)
    low, high = stats.chi2.ppf([1e-5, 1 - 1e-5], 599) / 599
    assert 36 * low < np.var(counts, ddof=1) < 36 * high
    assert MECHANISM.vote_on_server(counts[0], variance=36, random=chance(0)) == counts[0]
    assert MECHANISM.vote_cost(36) == SkellamCost(variance=36.0, l1=1, l2_squared=1)
