"""What a worker hands in is private before it leaves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fl_core.privacy.costs import GaussianCost
from fl_core.privacy.mechanisms import Release
from fl_core.privacy.mechanisms.local import Local
from fl_core.privacy.stream import Random

MECHANISM = Local(clip=0.5, noise_multiplier=2.0)
RELEASE = Release(dimension=40_000, units=1)


def test_the_noise_is_in_each_update(chance: Callable[[int], Random]) -> None:
    """A long update is clipped, and normal noise of noise multiplier times clip norm is on every value."""
    update = {"w": np.full((200, 200), 3.0, "f4")}
    handed_in = MECHANISM.on_worker(update, RELEASE, chance(1))["w"]
    assert handed_in.shape == (200, 200)
    assert handed_in.std() == pytest.approx(1.0, rel=0.02)
    assert handed_in.mean() == pytest.approx(0.5 / 200, abs=5 / 200)


def test_zeros_and_updates_hand_in_values_of_one_grid(chance: Callable[[int], Random]) -> None:
    """By the low bits of what it handed in nobody can tell what a worker had."""
    for value in (0.0, 1e-5 / 3):
        handed_in = MECHANISM.on_worker({"w": np.full(1000, value)}, RELEASE, chance(2))["w"]
        assert np.array_equal(handed_in * 2**20, np.rint(handed_in * 2**20))


def test_the_server_has_nothing_to_add(chance: Callable[[int], Random]) -> None:
    """The sum stays as it is, and the cost is that of one worker's noise."""
    total = {"w": np.ones(3)}
    assert MECHANISM.on_server(total, RELEASE, chance(0)) is total
    assert MECHANISM.cost(RELEASE) == GaussianCost(noise_multiplier=2.0)
