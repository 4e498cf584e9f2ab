"""The draw of a cohort from its candidates."""

from __future__ import annotations

import pytest

from fl_core.cohorts import Draw, by_number
from fl_core.secagg.buckets import Buckets
from fl_core.selection.uniform import Uniform


def names(count: int) -> list[str]:
    return [f"worker-{index}" for index in range(count)]


@pytest.mark.parametrize(("absent", "shares"), [(0, [2, 2, 2]), (3, [1, 2, 3])])
def test_each_bucket_has_its_share_of_a_cohort(absent: int, shares: list[int]) -> None:
    """A cohort is taken from all buckets alike; what one of them lacks the others make up for."""
    buckets = Buckets("job-1", 3)
    gone = {f"worker-{index}" for index in buckets.dealt(range(12))[1][:absent]}
    here = [name for name in names(12) if name not in gone]
    drawn = Draw(Uniform(), seed=7, buckets=buckets).cohort(here, 6, round=1, number=1)
    chosen = [by_number(name)[1] for name in drawn]
    assert sorted(len(some) for some in buckets.dealt(chosen).values()) == shares


def test_rounds_and_attempts_draw_anew() -> None:
    """Another seed, round or attempt is another cohort."""
    drawn = {
        tuple(Draw(Uniform(), seed=seed).cohort(names(8), 3, round=number, number=attempt))
        for seed, number, attempt in ((1, 1, 1), (1, 2, 1), (1, 1, 2), (2, 1, 1))
    }
    assert len(drawn) == 4
