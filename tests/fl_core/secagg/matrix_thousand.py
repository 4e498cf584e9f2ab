"""A whole session of 1,000 workers, in a minute: `pytest tests/fl_core/secagg/matrix_thousand.py`."""

from __future__ import annotations

from tests.fl_core.secagg.cast import DEVICE, STEPS, Cohort, same
from tests.fl_core.secagg.test_protocol import left_at


def test_a_thousand_workers_of_whom_a_third_is_lost() -> None:
    """300 of 1,000 workers on a sparse graph, lost at all steps together, leave the sum of the others."""
    deaths = {worker * 3: STEPS[1:][worker % 4] for worker in range(300)}
    cohort = Cohort(range(1000), terms=DEVICE)
    cohort.run(deaths=deaths)
    cohort.open()
    assert same(cohort.total, cohort.sum(left_at(1000, deaths, "upload")))
