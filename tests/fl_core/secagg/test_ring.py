"""Updates as whole numbers: right on average, within a known error, exactly summed, and honest about clipping."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from fl_core.errors import SpecError
from fl_core.secagg.ring import BLOCK, Ring, public_dither
from fl_core.weights import Manifest

rings = some.builds(
    Ring,
    bits=some.sampled_from([16, 32]),
    members=some.integers(3, 100),
    most_weight=some.integers(1, 10_000),
)


def dither(worker: int = 0) -> np.random.Generator:
    return public_dither(1, round=1, worker=worker)


def encoded(ring: Ring, update: Any, exponents: Any, *, weight: int = 1, worker: int = 0) -> Any:
    words, clipped = ring.encode(update, exponents, weight=weight, dither=dither(worker))
    return words.view(f"<i{ring.bits // 8}"), clipped


@settings(deadline=None)
@given(ring=rings, share=some.floats(-1, 1), heavy=some.floats(0, 1))
def test_rounding_is_right_on_average(ring: Ring, share: float, heavy: float) -> None:
    """Whatever the value in the range and the weight, the mean over many dithers is the value, and nothing is cut."""
    weight, count = max(1, round(heavy * ring.most_weight)), 40_000
    words, clipped = encoded(ring, {"x": np.full(count, share)}, [0], weight=weight)
    expected = share * weight * ring.levels / ring.most_weight
    assert clipped == 0
    assert abs(words.mean() - expected) <= 6 * 0.5 / count**0.5 + 1e-6 * abs(expected)
    assert np.abs(words - expected).max() < 1 + 1e-6


@settings(deadline=None)
@given(ring=rings, data=some.data())
def test_the_mean_is_within_its_bound(ring: Ring, data: Any) -> None:
    """Each worker's element is wrong by less than one level, so the mean is by less than members levels over weight."""
    members = data.draw(some.integers(1, min(ring.members, 8)))
    random, exponent = np.random.default_rng(members), data.draw(some.integers(-40, 23))
    updates = [{"x": random.uniform(-1, 1, 30) * 2.0**exponent} for _ in range(members)]
    weights = [data.draw(some.integers(1, ring.most_weight)) for _ in range(members)]
    total = np.zeros(30, f"<u{ring.bits // 8}")
    for worker, (update, weight) in enumerate(zip(updates, weights, strict=True)):
        total += ring.encode(update, [exponent], weight=weight, dither=dither(worker))[0]
    mean = ring.decode(total, Manifest.of(updates[0]), [exponent], weight=sum(weights))["x"]
    exact = sum(weight * update["x"] for update, weight in zip(updates, weights, strict=True)) / sum(weights)
    level = 2.0**exponent / ring.levels * ring.most_weight / sum(weights)
    assert np.abs(mean - exact).max() <= members * level * (1 + 1e-6)


@settings(deadline=None)
@given(ring=rings, sign=some.sampled_from([1, -1]), beyond=some.sampled_from([1.0, 2.0, 1e30]))
def test_the_ring_has_room_for_everybody(ring: Ring, sign: int, beyond: float) -> None:
    """All members at the end of the range, or far beyond it, sum without wrapping around, with two bits to spare."""
    words, _ = encoded(ring, {"x": np.array([sign * beyond])}, [0], weight=ring.most_weight)
    total = int(words[0]) * ring.members
    assert abs(int(words[0])) <= ring.levels
    assert -(2 ** (ring.bits - 3)) <= total <= 2 ** (ring.bits - 3)


@settings(deadline=None)
@given(ring=rings, heavy=some.floats(0, 1), count=some.integers(0, 50))
def test_what_is_clipped_is_counted(ring: Ring, heavy: float, count: int) -> None:
    """Elements beyond the range are cut to it, each is counted, and those within are not."""
    weight = max(1, round(heavy * ring.most_weight))
    values = np.concatenate([np.full(count, 3.0e3), np.linspace(-1, 1, 100)])
    words, clipped = encoded(ring, {"x": values}, [0], weight=weight)
    most = -(-weight * ring.levels // ring.most_weight)
    beyond = 3.0e3 * weight * ring.levels / ring.most_weight > most
    assert clipped == count * beyond
    assert set(words[:count].tolist()) <= {most, most - 1} if beyond else True
    assert np.abs(words).max() <= most


def test_a_light_worker_at_the_end_of_the_range_is_not_cut() -> None:
    """A weight of a hundredth of the greatest leaves less than one level; the mean is still right."""
    ring = Ring(bits=16, members=100, most_weight=10_000)
    words, clipped = encoded(ring, {"x": np.full(100_000, 1.0)}, [0], weight=100)
    assert clipped == 0
    assert abs(words.mean() - 0.81) < 0.01


def test_several_arrays_have_ranges_of_their_own() -> None:
    """float16, float32 and float64, empty, scalar and over many blocks, come back under their names and shapes."""
    random = np.random.default_rng(0)
    update = {
        "half": random.uniform(-4, 4, (3, 5)).astype(np.float16),
        "none": np.zeros((0, 7), np.float32),
        "scalar": np.array(0.25, np.float64),
        "long": random.uniform(-2e-6, 2e-6, 2 * BLOCK + 3).astype(np.float32),
    }
    exponents, ring = (2, -40, -2, -18), Ring(bits=32, members=10, most_weight=7)
    words, clipped = ring.encode(update, exponents, weight=7, dither=dither())
    mean = ring.decode(words, Manifest.of(update), exponents, weight=7)
    assert clipped == 0
    assert list(mean) == list(update)
    for (name, array), exponent in zip(update.items(), exponents, strict=True):
        assert mean[name].shape == array.shape
        assert mean[name].dtype == np.float64
        assert np.abs(mean[name] - array).max(initial=0) <= 2.0**exponent / ring.levels


def test_arrays_in_another_order_of_memory_are_the_same() -> None:
    """A transposed view is encoded as its copy is."""
    array = np.arange(12.0).reshape(3, 4).T / 12
    ring = Ring(bits=32, members=3, most_weight=1)
    one, _ = encoded(ring, {"x": array}, [0])
    other, _ = encoded(ring, {"x": array.copy(order="C")}, [0])
    assert one.tolist() == other.tolist()


def test_dither_repeats_and_differs() -> None:
    """The same in every replay; another one for each worker, round and seed."""
    draws = {
        (seed, turn, worker): public_dither(seed, round=turn, worker=worker).random(4).tolist()
        for seed in (1, 2)
        for turn in (1, 2)
        for worker in (1, 2)
    }
    assert public_dither(2, round=1, worker=2).random(4).tolist() == draws[2, 1, 2]
    assert len({tuple(drawn) for drawn in draws.values()}) == 8


@pytest.mark.parametrize(("bits", "members", "fits"), [(16, 512, True), (16, 513, False), (32, 10_000, True)])
def test_a_cohort_that_leaves_too_few_levels_is_refused(bits: Any, members: int, *, fits: bool) -> None:
    """Sixteen levels are the least; the error says what to change."""
    if fits:
        assert Ring(bits, members, 1).levels >= 16
    else:
        with pytest.raises(SpecError, match="bits: 16 bits leave 15 levels .* use 32 bits"):
            Ring(bits, members, 1)
