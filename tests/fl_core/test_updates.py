"""The weighted sum is exact, the same in every order, and refuses what it cannot hold."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.errors import UpdateError
from fl_core.updates import FRACTION_BITS, MOST_WEIGHT, ExactSum, magnitude
from fl_core.weights import Array, Manifest, pack

Update = tuple[list[float], int]

finite32 = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**40), max_value=2.0**40)
updates = st.lists(
    st.tuples(st.lists(finite32, min_size=3, max_size=3), st.integers(1, 2**20)), min_size=1, max_size=6
)


def weights_of(values: list[float], dtype: str = "f4") -> dict[str, Array]:
    return {"a": np.array(values[:1], dtype), "b": np.array(values[1:], dtype)}


def hand_in(total: ExactSum, values: list[float], weight: int, *, dtype: str = "f4", chunk: int = 8) -> None:
    """As the server does it: verify chunk by chunk, check, then add the whole update."""
    buffer = memoryview(pack(weights_of(values, dtype)))
    chunks = [(at, buffer[at : at + chunk]) for at in range(0, len(buffer), chunk)]
    largest = max((magnitude(total.manifest, at, data) for at, data in chunks), default=0.0)
    total.check(weight=weight, largest=largest)
    total.add(chunks, weight=weight)


def total_of(parts: list[Update], *, dtype: str = "f4", capacity: int = 6, chunk: int = 8) -> ExactSum:
    total = ExactSum(Manifest.of(weights_of([0.0] * 3, dtype)), capacity=capacity)
    for values, weight in parts:
        hand_in(total, values, weight, dtype=dtype, chunk=chunk)
    return total


def limbs(total: ExactSum) -> list[list[int]]:
    """Everything a sum holds, as whole numbers."""
    high = [
        np.zeros_like(low) if part is None else part
        for low, part in zip(total._low, total._high, strict=True)
    ]
    return [part.tolist() for part in (*total._low, *high)] + [[total.weight, total.count]]


def result(total: ExactSum) -> bytes:
    return bytes(pack(total.mean()))


@settings(deadline=None, max_examples=80)
@given(updates.flatmap(lambda parts: st.tuples(st.just(parts), st.permutations(parts))))
def test_the_order_of_arrival_does_not_matter(both: tuple[list[Update], list[Update]]) -> None:
    """In whatever order updates come, sum and mean are the same to the bit."""
    once, again = map(total_of, both)
    assert limbs(once) == limbs(again)
    assert result(once) == result(again)


@settings(deadline=None, max_examples=40)
@given(updates, st.sampled_from([4, 8, 12, 1 << 20]))
def test_the_cut_into_chunks_does_not_matter(parts: list[Update], chunk: int) -> None:
    """However an update is cut at whole elements, the sum is the same to the bit."""
    assert limbs(total_of(parts, chunk=chunk)) == limbs(total_of(parts, chunk=8))


@settings(deadline=None, max_examples=40)
@given(updates, st.integers(0, 6))
def test_the_grouping_does_not_matter(parts: list[Update], cut: int) -> None:
    """The sums of two groups add up, as whole numbers, to the sum of all."""
    whole, left, right = map(total_of, (parts, parts[:cut], parts[cut:]))
    assert [
        [one + other for one, other in zip(mine, yours, strict=True)]
        for mine, yours in zip(limbs(left), limbs(right), strict=True)
    ] == limbs(whole)


@settings(deadline=None, max_examples=80)
@given(updates)
def test_the_mean_is_that_of_fractions(parts: list[Update]) -> None:
    """The mean departs from the true one by the rounding of products and of the last three operations only."""
    mean = np.concatenate(list(total_of(parts).mean().values()))
    weight = sum(count for _, count in parts)
    for index, found in enumerate(mean):
        products = [Fraction(float(np.float32(values[index]))) * count for values, count in parts]
        size = sum(map(abs, products))
        allowed = len(parts) * Fraction(1, 2 ** (FRACTION_BITS + 1)) + size * Fraction(8, 2**53)
        assert abs(Fraction(float(found)) * weight - sum(products)) <= allowed


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=6), st.integers(1, 100))
def test_whole_numbers_lose_nothing(numbers: list[int], weight: int) -> None:
    """Where nothing needs rounding, the sum is exact, also where large values cancel."""
    parts = [([float(number)] * 3, weight) for number in numbers]
    assert total_of(parts).mean()["a"][0] == sum(numbers) / len(numbers)


@pytest.mark.parametrize(
    ("parts", "whole"), [(1.75, 2), (-1.75, -2), (0.4, 0), (0.5, 0), (1.5, 2), (2.5, 2), (-0.6, -1)]
)
def test_a_product_is_rounded_to_the_nearest(parts: float, whole: int) -> None:
    """What is finer than the sum's resolution goes to the nearest multiple of it, not towards zero."""
    unit = 2.0**-FRACTION_BITS
    assert total_of([([parts * unit] * 3, 1)], dtype="f8").mean()["a"].tolist() == [whole * unit]


def test_large_and_small_values_stand_side_by_side() -> None:
    """What is small survives beside what is larger by 2^60, once the large values cancel."""
    parts = [([2.0**40] * 3, 1), ([2.0**-20] * 3, 1), ([-(2.0**40)] * 3, 1)]
    assert total_of(parts).mean()["b"].tolist() == [2.0**-20 / 3] * 2


@pytest.mark.parametrize("capacity", [1, 3, 100, 1000])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_full_cohort_of_the_largest_values_does_not_overflow(capacity: int, sign: int) -> None:
    """As many updates as the sum takes, each as large as it takes, still give the right mean."""
    manifest = Manifest.of(weights_of([0.0] * 3, "f8"))
    largest = math.nextafter(ExactSum(manifest, capacity=capacity).limit, 0.0)
    total = total_of([([sign * largest] * 3, 1)] * capacity, dtype="f8", capacity=capacity)
    assert total.mean()["a"].tolist() == pytest.approx([sign * largest], rel=1e-15)


@pytest.mark.parametrize(
    ("values", "weight", "told"),
    [
        ([math.nan, 0, 0], 1, "not finite numbers"),
        ([0, 0, math.nan], 1, "between byte 16 and 24"),
        ([0, math.inf, 0], 1, "not finite numbers"),
        ([0, -math.inf, 0], 1, "not finite numbers"),
        ([1e300, 0, 0], 1, "training has diverged"),
        ([-1e300, 0, 0], 1, "values up to 1e\\+300"),
        ([1e300, 0, 0], MOST_WEIGHT, "training has diverged"),
        ([1, 1, 1], 0, "weight is 0; it must be from 1"),
        ([1, 1, 1], -5, "weight is -5"),
        ([1, 1, 1], MOST_WEIGHT + 1, "must be from 1 to"),
    ],
)
def test_a_refused_update_changes_nothing(values: list[float], weight: int, told: str) -> None:
    """NaN, infinity, divergence and weights that are none are refused by name, and the sum stays as it was."""
    total = total_of([([1.0, 2.0, 3.0], 5)], dtype="f8")
    before = limbs(total)
    with pytest.raises(UpdateError, match=told):
        hand_in(total, values, weight, dtype="f8")
    assert limbs(total) == before


def test_what_is_exactly_too_large_is_refused() -> None:
    """The limit itself is too large, and for a weight of w it is w times nearer."""
    total = ExactSum(Manifest.of(weights_of([0.0] * 3, "f8")), capacity=3)
    total.check(weight=1, largest=math.nextafter(total.limit, 0))
    total.check(weight=4, largest=math.nextafter(total.limit / 4, 0))
    for weight, largest in ((1, total.limit), (4, total.limit / 4), (1, math.inf), (1, math.nan)):
        with pytest.raises(UpdateError, match="diverged"):
            total.check(weight=weight, largest=largest)


def test_more_than_the_cohort_is_refused() -> None:
    """A sum whose room is for two takes no third update, whatever is in it."""
    total = total_of([([1.0] * 3, 1)] * 2, capacity=2)
    with pytest.raises(UpdateError, match="at most 2 updates"):
        hand_in(total, [1.0] * 3, 1)


def test_nothing_has_no_mean() -> None:
    """A mean needs at least one update."""
    with pytest.raises(UpdateError, match="at least one"):
        total_of([]).mean()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_every_dtype_adds_up(dtype: str) -> None:
    """Half, single and double precision give the same mean of the same numbers."""
    mean = total_of([([1, 2, 3], 1), ([4, 5, 6], 3)], dtype=dtype).mean()
    assert mean["a"].tolist() + mean["b"].tolist() == [3.25, 4.25, 5.25]


def test_dtypes_and_shapes_stand_side_by_side() -> None:
    """Arrays of several dtypes, empty ones and scalars come back under their names, in their shapes."""
    one = {
        "h": np.full(3, 1.5, "f2"),
        "s": np.array(2.5, "f4"),
        "e": np.zeros((0, 4), "f8"),
        "d": np.full((2, 2), 3.5),
    }
    total = ExactSum(Manifest.of(one), capacity=1)
    total.add([(0, memoryview(pack(one)))], weight=7)
    mean = total.mean()
    assert {name: array.shape for name, array in mean.items()} == {n: a.shape for n, a in one.items()}
    assert all(np.array_equal(mean[name], one[name]) for name in one)


def test_a_sum_longer_than_a_block_has_no_seams() -> None:
    """Arrays longer than the step of the sum give what a sum element by element gives."""
    values = np.random.default_rng(1).normal(size=70_001).astype("f4")
    total = ExactSum(Manifest.of({"w": values}), capacity=2)
    for weight in (1, 2):
        total.add([(0, memoryview(pack({"w": values})))], weight=weight)
    assert np.abs(total.mean()["w"] - values).max() < 2**-FRACTION_BITS
