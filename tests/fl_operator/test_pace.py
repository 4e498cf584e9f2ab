"""Buckets and back-off, by a clock of our own."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from fl_operator.pace import FullJitter, TokenBucket, exponential


@given(
    rate=st.floats(0.1, 1000),
    burst=st.integers(1, 50),
    gaps=st.lists(st.floats(0, 2), min_size=1, max_size=200),
)
def test_never_more_than_burst_and_rate(rate: float, burst: int, gaps: list[float]) -> None:
    """In any span of time no more than `burst` plus `rate` times the span may go."""
    bucket, now, used = TokenBucket(rate, burst), 0.0, []
    for gap in gaps:
        now += gap
        used.append(now + bucket.reserve(now))
    for first in range(0, len(used), 7):
        for last in range(first, len(used), 5):
            span = used[last] - used[first]
            assert last - first + 1 <= burst + rate * span + 1 + 1e-6


def test_a_burst_then_the_rate() -> None:
    """The first requests go at once, the others as the rate says, and rest fills the bucket."""
    bucket = TokenBucket(rate=10, burst=2)
    assert [round(bucket.reserve(0.0), 3) for _ in range(4)] == [0, 0, 0.1, 0.2]
    assert bucket.reserve(10.0) == 0


def test_no_limit() -> None:
    """A rate of zero never makes anybody wait."""
    bucket = TokenBucket(rate=0, burst=1)
    assert [bucket.reserve(0.0) for _ in range(3)] == [0, 0, 0]
    assert all(bucket.taken(0.0) for _ in range(3))


def test_taken_or_not() -> None:
    """An empty bucket refuses, and gives again when time has passed."""
    bucket = TokenBucket(rate=1, burst=1)
    assert [bucket.taken(0.0), bucket.taken(0.5), bucket.taken(1.0)] == [True, False, True]


def test_doubling_to_a_bound() -> None:
    """The wait doubles from the first to the bound, however many failures there are."""
    waits = [exponential(n, first=0.005, most=1000) for n in (0, 1, 2, 3, 18, 19, 10_000)]
    assert waits == [0, 0.005, 0.01, 0.02, 655.36, 1000, 1000]


def test_full_jitter() -> None:
    """Waits are drawn between nothing and the bound, which grows with failures and not after a success."""
    backoff = FullJitter(random.Random(1), first=1, most=8)
    drawn = [[backoff.next() for _ in range(6)] for _ in range(200) if backoff.reset() is None]
    for place, bound in enumerate([1, 2, 4, 8, 8, 8]):
        column = [row[place] for row in drawn]
        assert max(column) <= bound
        assert max(column) > 0.9 * bound
        assert min(column) < 0.1 * bound
