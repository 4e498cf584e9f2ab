"""Whole sessions of 1,000 workers, a minute each: `pytest tests/fl_core/secagg/matrix_thousand.py`."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as some

from tests.fl_core.secagg.cast import DEVICE, STEPS, Cohort, same
from tests.fl_core.secagg.test_protocol import left_at, unhurried


@settings(unhurried, max_examples=2)
@given(seed=some.integers(0, 2**32))
def test_a_thousand_workers_of_whom_a_third_is_lost(seed: int) -> None:
    """300 of 1,000 workers on a sparse graph, lost at any steps after the first, leave the sum of the others."""
    random = Random(seed)
    deaths = {worker: random.choice(STEPS[1:]) for worker in random.sample(range(1000), 300)}
    cohort = Cohort(range(1000), terms=DEVICE)
    cohort.run(deaths=deaths)
    cohort.open()
    assert same(cohort.total, cohort.sum(left_at(1000, deaths, "upload")))
