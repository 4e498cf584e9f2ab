"""Buckets are even, fixed and public, and each is a session that nobody else can be in."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.errors import ProtocolError
from fl_core.secagg.buckets import Buckets, shares, smallest
from tests.fl_core.secagg.cast import JOB, Cohort, context, refusal, same

THREE = Buckets(JOB, 3)
DEALT = THREE.dealt(range(12))
COUNTS = st.integers(1, 40)


def test_the_deal_of_a_job_is_known() -> None:
    """It follows from job and number by a hash that any other implementation can compute, and never changes."""
    assert DEALT == {0: [1, 3, 6, 10], 1: [0, 4, 8, 9], 2: [2, 5, 7, 11]}
    assert Buckets("another job", 3).dealt(range(12)) != DEALT


@given(st.text(max_size=5), COUNTS, st.integers(0, 300), st.integers(0, 300))
@settings(deadline=None)
def test_buckets_are_even(job: str, count: int, first: int, workers: int) -> None:
    """Of workers with numbers in a row no bucket has two more than another, and none fewer than is promised."""
    numbers = range(first, first + workers)
    sizes = [len(some) for some in Buckets(job, count).dealt(numbers).values()]
    assert sum(sizes) == workers
    assert min(sizes) >= smallest([numbers], count) >= workers // count - 1
    assert max(sizes) - min(sizes) <= (2 if first else 1)
    assert first or smallest([numbers], count) == workers // count


@given(COUNTS, st.integers(0, 300))
@settings(deadline=None)
def test_more_workers_move_nobody(count: int, workers: int) -> None:
    """Who is in which bucket does not depend on who else there is."""
    dealt = Buckets(JOB, count).dealt(range(workers))
    again = Buckets(JOB, count).dealt(range(workers + 7))
    assert all(set(dealt[bucket]) <= set(again[bucket]) for bucket in dealt)


@given(st.dictionaries(st.integers(0, 9), st.integers(0, 20), min_size=1), st.integers(0, 100))
@settings(deadline=None)
def test_a_cohort_has_equal_shares(available: dict[int, int], count: int) -> None:
    """As many are taken as there are, up to the count; a bucket gets fewer only where it has no more."""
    taken = shares(available, count)
    assert sum(taken.values()) == min(count, sum(available.values()))
    assert all(taken[bucket] <= available[bucket] for bucket in available)
    most = max(taken.values())
    assert all(taken[bucket] >= most - 1 for bucket in available if taken[bucket] < available[bucket])


def test_one_bucket_is_everybody() -> None:
    """Without buckets all workers are in the one there is."""
    assert Buckets(JOB).dealt(range(5)) == {0: [0, 1, 2, 3, 4]}


def cohort(bucket: int, *, buckets: int = 3) -> Cohort:
    """A session of one bucket's workers."""
    return Cohort(DEALT[bucket], bucket=bucket, buckets=buckets)


def test_each_bucket_opens_its_own_sum() -> None:
    """Sessions of the same round in different buckets come to the sums of their own workers, to the bit."""
    for bucket, workers in DEALT.items():
        one = cohort(bucket)
        one.finish()
        assert same(one.total, one.sum(workers))


def test_a_worker_of_another_bucket_is_in_no_session() -> None:
    """A host cannot freeze a roster with somebody of another bucket, and a member that is shown one shares nothing."""
    one = Cohort([*DEALT[0], DEALT[1][0]], bucket=0, buckets=3)
    with pytest.raises(ProtocolError, match=r"update, bucket 0: worker-0 in other buckets"):
        one.advertise()
    one = cohort(0)
    one.advertise()
    member, roster = one.members[1], one.shown(1)
    with refusal(member, "in other buckets"):
        changed = (*roster.candidates[:-1], 11)
        member.share(type(roster)(changed, changed, roster.root, roster.entries))


def test_what_is_signed_names_the_bucket() -> None:
    """An advertisement for a session of one bucket is refused in another, and in one of all workers."""
    entry = cohort(0).members[1].advertise()
    for other in (cohort(1), Cohort(range(4))):
        with refusal(other.host, "the signature does not fit"):
            other.host.advertised(1, entry)
    places = [context(bucket=bucket, buckets=buckets) for bucket, buckets in ((0, 1), (0, 3), (1, 3), (0, 4))]
    assert max(Counter(one.digest for one in places).values()) == 1
