"""No update and no gradient is longer than it may be, and the clip norm finds its quantile."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra import numpy as hnp

from fl_core.errors import SpecError
from fl_core.privacy.clipping import AdaptiveClip, clip, clipped_sum, norm, norms_of_each

DTYPES = ("float16", "float32", "float64")
arrays = some.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(
        dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0), elements=some.floats(-1e4, 1e4, width=16)
    )
)
updates = some.dictionaries(some.sampled_from("abcd"), arrays, max_size=3)
ADAPTIVE = AdaptiveClip(quantile=0.5, learning_rate=0.2, count_noise=1.0)


def squares(update: Any) -> Fraction:
    return sum((Fraction(float(one)) ** 2 for array in update.values() for one in array.flat), Fraction(0))


@settings(deadline=None)
@given(updates, some.floats(1e-6, 1e6))
def test_what_is_clipped_is_never_longer(update: Any, most: float) -> None:
    """In exact fractions, whatever the dtypes, the squared norm is at most that of the clip norm; float64 comes out."""
    short, before = clip(update, most=most)
    assert squares(short) <= Fraction(most) ** 2
    assert before == pytest.approx(math.sqrt(squares(update)))
    assert all(array.dtype == np.float64 for array in short.values())
    assert {name: array.shape for name, array in short.items()} == {n: a.shape for n, a in update.items()}


@given(updates)
def test_what_is_short_enough_is_left_as_it_is(update: Any) -> None:
    """An update below the clip norm goes through unchanged, zeros and no arrays at all included."""
    short, _ = clip(update, most=norm(update) * 1.01 + 1)
    assert all(np.array_equal(short[name], array) for name, array in update.items())


def test_all_arrays_count_together() -> None:
    """The norm is that of the whole update: 3 and 4 in two arrays make 5, and both are shortened alike."""
    update = {"a": np.full(1, 3, "f2"), "b": np.full((1, 1), 4, "f4")}
    assert norm(update) == 5
    short, _ = clip(update, most=1.0)
    assert (short["a"][0], short["b"][0, 0]) == pytest.approx((0.6, 0.8))


def test_float16_is_summed_in_float64() -> None:
    """A million ones, whose squares float16 cannot add up, have the norm 1000; large float32 do not overflow."""
    assert norm({"w": np.ones(10**6, "f2")}) == 1000
    assert norm({"w": np.full(4, 1e30, "f4")}) == pytest.approx(2e30)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_counts_as_zeros(bad: float) -> None:
    """An update, or one example's gradient in any of its arrays: a refusal would tell of it without noise."""
    short, length = clip({"w": np.array([1.0, bad]), "v": np.ones(2)}, most=1)
    assert ([array.tolist() for array in short.values()], length) == ([[0, 0], [0, 0]], 0)
    gradients = {"w": np.array([[0.5], [bad], [0.25]]), "v": np.array([0.0, 0.125, 0.0])}
    assert clipped_sum(gradients, most=1) == {"w": [0.75], "v": 0}


def test_what_is_longer_than_float64_can_say_counts_as_zeros() -> None:
    """Finite values whose squares are not: no length says how far they must be shortened."""
    far = np.full(2, 1e200)
    assert clip({"w": far}, most=1)[0]["w"].tolist() == [0, 0]
    assert clipped_sum({"w": np.array([far, [0.5, 0.25]])}, most=1)["w"].tolist() == [0.5, 0.25]


@pytest.mark.parametrize("most", [0.0, -1.0, math.nan, math.inf])
def test_a_clip_norm_is_positive(most: float) -> None:
    """A clip norm that bounds nothing is refused."""
    with pytest.raises(SpecError, match="the clip norm is"):
        clip({"w": np.ones(2)}, most=most)


batches = some.integers(0, 5).flatmap(
    lambda batch: some.fixed_dictionaries(
        {
            "w": hnp.arrays("f4", (batch, 3, 2), elements=some.floats(-100, 100, width=32)),
            "b": hnp.arrays("f8", (batch,), elements=some.floats(-100, 100)),
        }
    )
)


@settings(deadline=None)
@given(batches, some.floats(0.01, 1000))
def test_each_example_is_clipped_by_itself(gradients: Any, most: float) -> None:
    """The sum is what clipping one example after the other gives, and zeros for no example."""
    wanted = {"w": np.zeros((3, 2)), "b": np.zeros(())}
    for place in range(len(gradients["b"])):
        short, _ = clip({name: array[place] for name, array in gradients.items()}, most=most)
        wanted = {name: wanted[name] + short[name] for name in wanted}
    total = clipped_sum(gradients, most=most)
    assert all(np.allclose(total[name], wanted[name], atol=1e-9) for name in wanted)
    assert {name: array.shape for name, array in total.items()} == {"w": (3, 2), "b": ()}
    assert norms_of_each(gradients).shape == gradients["b"].shape


def test_the_clip_norm_finds_the_quantile() -> None:
    """From far below and from far above, the norm comes to the median of the updates' and stays there."""
    lengths = np.random.default_rng(1).lognormal(1.0, 1.0, size=(200, 100))
    noise = np.random.default_rng(2).normal(0, ADAPTIVE.votes_multiplier, 200)
    for start in (0.01, 1000.0):
        norm_in_force = start
        for each, extra in zip(lengths, noise, strict=True):
            votes = sum(ADAPTIVE.vote(one, clip_norm=norm_in_force) for one in each) + int(extra)
            norm_in_force = ADAPTIVE.step(norm_in_force, votes, cohort=100)
        assert norm_in_force == pytest.approx(math.e, rel=0.25)


def test_one_step_is_the_papers() -> None:
    """C exp(-0.2 (b - 0.5)); a share beyond 0 and 1, which only noise can make, counts as 0 and 1."""
    assert ADAPTIVE.step(2.0, votes=-10, cohort=10) == pytest.approx(2 * math.exp(0.1))
    assert ADAPTIVE.step(2.0, votes=0, cohort=10) == 2
    assert ADAPTIVE.step(2.0, votes=15, cohort=10) == ADAPTIVE.step(2.0, votes=10, cohort=10)


@given(some.floats(0.1, 50), some.floats(1.001, 100))
def test_update_and_votes_together_cost_what_one_release_would(multiplier: float, times: float) -> None:
    """Both Gaussian costs, 1 / z^2 each, add up to that of the whole noise multiplier."""
    adaptive = AdaptiveClip(quantile=0.5, learning_rate=0.2, count_noise=multiplier / 2 * times)
    parts = adaptive.update_multiplier(multiplier) ** -2 + adaptive.votes_multiplier**-2
    assert parts == pytest.approx(multiplier**-2)
    assert adaptive.votes_variance >= adaptive.votes_multiplier**2


@pytest.mark.parametrize("multiplier", [2.0, 2.5, 100.0])
def test_a_count_with_too_little_noise_is_refused(multiplier: float) -> None:
    """At half of the noise multiplier and below, the count alone would cost all there is."""
    with pytest.raises(SpecError, match=f"more than half of the noise multiplier {multiplier:g}"):
        ADAPTIVE.update_multiplier(multiplier)
