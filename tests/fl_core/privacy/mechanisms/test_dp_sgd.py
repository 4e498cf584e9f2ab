"""Every example is drawn by its own coin, counts no more than the clip norm, and hides in the noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from fl_core.errors import UpdateError
from fl_core.privacy.costs import SampledGaussianCost
from fl_core.privacy.mechanisms import Release
from fl_core.privacy.mechanisms.dp_sgd import DpSgd
from fl_core.privacy.stream import BLOCK, Random

MECHANISM = DpSgd(clip=1.0, noise_multiplier=0.8, rate=0.05, steps=30, learning_rate=1.0)


def test_the_size_of_a_batch_is_binomial(chance: Callable[[int], Random]) -> None:
    """Each example is in with the stated probability, independently: sizes spread as a binomial's do."""
    sizes = [MECHANISM.sample(1000, chance(seed)).size for seed in range(400)]
    assert np.mean(sizes) == pytest.approx(50, abs=5 * math.sqrt(47.5 / 400))
    ratio = np.var(sizes, ddof=1) / 47.5 * 399
    assert stats.chi2.ppf(1e-5, 399) < ratio < stats.chi2.ppf(1 - 1e-5, 399)


def test_every_example_has_its_turn(chance: Callable[[int], Random]) -> None:
    """Over many steps all places come equally often, those beyond one block of words too."""
    count = BLOCK + 500
    turns = np.zeros(count)
    for seed in range(200):
        turns[MECHANISM.sample(count, chance(seed))] += 1
    assert turns.mean() == pytest.approx(10, rel=0.01)
    assert abs(turns[BLOCK:].mean() - 10) < 5 * math.sqrt(9.5 / 500)
    assert turns.var() == pytest.approx(9.5, rel=0.1)


@pytest.mark.parametrize(("rate", "wanted"), [(1.0, [0, 1, 2, 3, 4]), (1e-19, [])])
def test_all_and_none_can_be_drawn(chance: Callable[[int], Random], rate: float, wanted: list[int]) -> None:
    """A rate of one takes all examples; no example at all, and none drawn, are whole numbers of places."""
    mechanism = DpSgd(clip=1.0, noise_multiplier=1.0, rate=rate, steps=1, learning_rate=1.0)
    assert mechanism.sample(5, chance(1)).tolist() == wanted
    assert MECHANISM.sample(0, chance(1)).size == 0


def test_a_gradient_is_clipped_noised_and_divided_by_the_expected_size(
    chance: Callable[[int], Random],
) -> None:
    """The mean over the examples that were to be expected, whatever the batch is, with the stated noise."""
    gradients = {"w": np.full((6, 30_000), 5.0, "f4")}
    drawn = MECHANISM.gradient(gradients, examples=200, random=chance(3))["w"]
    assert drawn.std() == pytest.approx(0.8 / (0.05 * 200), rel=0.03)
    assert drawn.mean() * 10 == pytest.approx(6 / math.sqrt(30_000), abs=5 * 0.8 / math.sqrt(30_000))


def test_an_empty_batch_is_released_too(chance: Callable[[int], Random]) -> None:
    """Where no example was drawn the step is noise alone: that nobody was drawn stays hidden."""
    drawn = MECHANISM.gradient({"w": np.zeros((0, 4, 5))}, examples=200, random=chance(4))["w"]
    assert drawn.shape == (4, 5)
    assert np.count_nonzero(drawn) == 20
    with pytest.raises(UpdateError, match="nothing to train on"):
        MECHANISM.gradient({"w": np.zeros((0, 4, 5))}, examples=0, random=chance(4))


def test_a_round_costs_its_steps(chance: Callable[[int], Random]) -> None:
    """The charge is that of all steps of a round; update and sum are left as they are."""
    release, update = Release(dimension=3, units=1), {"w": np.ones(3)}
    assert MECHANISM.cost(release) == SampledGaussianCost(noise_multiplier=0.8, rate=0.05, steps=30)
    assert MECHANISM.on_worker(update, release, chance(1)) is update
    assert MECHANISM.on_server(update, release, chance(1)) is update
