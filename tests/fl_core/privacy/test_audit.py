"""An attack on the mechanisms themselves proves no more leakage than is claimed, and sees it when there is more.

Thousands of runs with and without a canary, the update (or example) that can be told best, tell how often an attacker
is right. With confidence (Clopper, Pearson 1934) a rate of hits and one of false alarms give a lower bound on epsilon:
Jagielski, Ullman, Oprea, Auditing Differentially Private Machine Learning, NeurIPS 2020.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fl_core.privacy.accountant import epsilon
from fl_core.privacy.costs import Neighbours
from fl_core.privacy.mechanisms import Release
from fl_core.privacy.mechanisms.dp_sgd import DpSgd
from fl_core.privacy.mechanisms.gaussian import Gaussian
from fl_core.privacy.mechanisms.local import Local
from fl_core.privacy.mechanisms.skellam import Skellam
from fl_core.privacy.stream import Random

RUNS = 1000
DELTA = 1e-3
CONFIDENCE = 0.999
RELEASE = Release(dimension=40, units=60, honest=3)
CANARY = np.full(40, 1 / math.sqrt(40))


def least_epsilon(hits: int, alarms: int) -> float:
    """The epsilon that so many hits and false alarms in RUNS each prove with confidence, for one threshold."""
    certain = stats.beta.ppf((1 - CONFIDENCE) / 2, hits, RUNS - hits + 1) if hits else 0.0
    at_most = stats.beta.ppf((1 + CONFIDENCE) / 2, alarms + 1, RUNS - alarms)
    return math.log((certain - DELTA) / at_most) if certain > DELTA else 0.0


def audited(run: Callable[[Any, Random], float], chance: Callable[[int], Random]) -> float:
    """The best proof among a few thresholds, halfway between the worlds and beyond, from either side."""
    with_canary = np.array([run(CANARY, chance(seed)) for seed in range(RUNS)])
    without = np.array([run(0 * CANARY, chance(RUNS + seed)) for seed in range(RUNS)])
    found = []
    for threshold in np.quantile(np.concatenate([with_canary, without]), [0.05, 0.2, 0.5, 0.8, 0.95]):
        found.append(least_epsilon(int((with_canary > threshold).sum()), int((without > threshold).sum())))
        found.append(least_epsilon(int((without < threshold).sum()), int((with_canary < threshold).sum())))
    return max(found)


def seen(mechanism: Any, survivors: int) -> Callable[[Any, Random], float]:
    """What an attacker who knows the canary reads off a release: its share in the sum."""

    def run(canary: Any, random: Random) -> float:
        total = mechanism.on_worker({"w": canary}, RELEASE, random)["w"]
        for _ in range(survivors - 1):
            total = total + mechanism.on_worker({"w": np.zeros(40)}, RELEASE, random)["w"]
        return float(mechanism.on_server({"w": total}, RELEASE, random)["w"] @ CANARY)

    return run


def claimed(mechanism: Any) -> float:
    return epsilon([mechanism.cost(RELEASE)], delta=DELTA, neighbours=Neighbours.ADD_OR_REMOVE)


@pytest.mark.parametrize(
    ("mechanism", "survivors"),
    [
        (Gaussian(clip=1.0, noise_multiplier=1.0), 2),
        (Skellam(clip=1.0, noise_multiplier=1.0), 3),
        (Local(clip=1.0, noise_multiplier=1.0), 1),
    ],
    ids=["gaussian", "skellam", "local"],
)
def test_a_canary_is_found_no_more_often_than_claimed(
    chance: Callable[[int], Random], mechanism: Any, survivors: int
) -> None:
    """The attack proves some leakage, less than is claimed, and more than is claimed where noise is missing."""
    assert 0.3 < audited(seen(mechanism, survivors), chance) < claimed(mechanism)
    weaker = replace(mechanism, noise_multiplier=0.3)
    assert audited(seen(weaker, survivors), chance) > claimed(mechanism)


def test_an_example_is_found_no_more_often_than_claimed(chance: Callable[[int], Random]) -> None:
    """One step of DP-SGD with an example that has the longest gradient there may be, and without."""
    mechanism = DpSgd(clip=1.0, noise_multiplier=0.7, rate=0.5, steps=1, learning_rate=1.0)

    def stepped(mechanism: DpSgd, canary: Any, random: Random) -> float:
        examples = np.stack([canary * 50, *np.zeros((3, 40))])
        batch = {"w": examples[mechanism.sample(4, random)]}
        return float(mechanism.gradient(batch, examples=4, random=random)["w"] @ CANARY)

    assert 0.3 < audited(lambda one, random: stepped(mechanism, one, random), chance) < claimed(mechanism)
    weaker = replace(mechanism, noise_multiplier=0.15, rate=1.0)
    assert audited(lambda one, random: stepped(weaker, one, random), chance) > claimed(mechanism)
