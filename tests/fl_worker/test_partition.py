"""Splits share nothing, leave out nothing, leave nobody empty, and follow from their seed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.errors import ProgramError
from fl_worker import partition

Split = Callable[..., list[np.ndarray]]
LABELS = np.random.default_rng(0).integers(0, 10, 2000)

SPLITS = {
    "iid": lambda labels, count, seed: partition.iid(len(labels), count, seed=seed),
    "dirichlet": lambda labels, count, seed: partition.dirichlet(labels, count, alpha=0.1, seed=seed),
    "shards": lambda labels, count, seed: partition.shards(labels, count, per_worker=2, seed=seed),
    "quantity": lambda labels, count, seed: partition.quantity(len(labels), count, skew=2, seed=seed),
}
split = pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS.keys())


@split
@given(
    labels=st.lists(st.integers(0, 4), min_size=16, max_size=80),
    count=st.integers(1, 8),
    seed=st.integers(0, 2**32),
)
def test_every_example_has_exactly_one_worker(split: Split, labels: list[int], count: int, seed: int) -> None:
    """A split is a partition of the indices in which nobody is empty."""
    parts = split(labels, count, seed)
    assert len(parts) == count
    assert min(len(part) for part in parts) >= 1
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))


@split
def test_a_split_follows_from_its_seed(split: Split) -> None:
    """All workers that call with one seed see one split, and another seed gives another."""
    one, same, other = split(LABELS, 10, 3), split(LABELS, 10, 3), split(LABELS, 10, 4)
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@split
@pytest.mark.parametrize("count", [0, -1, 2001])
def test_what_cannot_be_split_is_refused(split: Split, count: int) -> None:
    """Fewer examples than workers, or no worker at all, is an error and no empty part."""
    with pytest.raises(ProgramError, match="partition"):
        split(LABELS, count, 0)


def test_iid_parts_are_alike() -> None:
    """Sizes of an iid split differ by at most one."""
    sizes = {len(part) for part in partition.iid(103, 10, seed=1)}
    assert sizes == {10, 11}


def test_a_small_alpha_makes_workers_unlike() -> None:
    """The smaller alpha, the more a worker's commonest label dominates."""

    def dominance(alpha: float) -> float:
        parts = partition.dirichlet(LABELS, 10, alpha=alpha, seed=1)
        return float(np.mean([np.bincount(LABELS[part]).max() / len(part) for part in parts]))

    assert dominance(0.05) > dominance(1) > dominance(100)


def test_shards_give_few_labels_to_each() -> None:
    """With two shards of sorted labels a worker sees at most four labels, and all get about as much."""
    parts = partition.shards(LABELS, 10, per_worker=2, seed=1)
    assert max(len(np.unique(LABELS[part])) for part in parts) <= 4
    assert {len(part) for part in parts} == {200}


def test_skew_makes_sizes_unequal() -> None:
    """Without skew all parts are alike; with it the largest is many times the smallest."""
    sizes = partial(partition.quantity, 1000, 10, seed=1)
    assert {len(part) for part in sizes(skew=0)} == {100}
    assert max(map(len, sizes(skew=2))) > 20 * min(map(len, sizes(skew=2)))


@pytest.mark.parametrize(
    "call",
    [
        lambda: partition.dirichlet(LABELS, 2, alpha=0),
        lambda: partition.quantity(10, 2, skew=-1),
        lambda: partition.shards(LABELS, 2, per_worker=0),
    ],
)
def test_options_out_of_range_are_refused(call: Callable[[], object]) -> None:
    """An option that makes no sense is named, with its value."""
    with pytest.raises(ProgramError, match="must be"):
        call()
