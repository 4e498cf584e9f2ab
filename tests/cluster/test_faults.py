"""A few cells of the matrix of faults in pods, drawn from a seed; `matrix_pods.py` has them all."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.cluster.matrix_pods import CELLS, Cell, Row, run
from tests.cluster.tenant import Tenant

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(600)]

SEED = 162
DRAWN = 2
"""Of each kind of job."""

DEATH = Cell(Row(secure=True, role="worker-1"), "kill", "upload")
"""Always tried: a worker's pod dies while it has a part in a secure sum."""


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "secure"])
def test_a_job_in_pods_gets_over_faults(tenant: Tenant, tmp_path: Path, *, secure: bool) -> None:
    """Each step that is drawn is disturbed: no round is lost or counted twice, each model is the undisturbed job's."""
    cells = [cell for cell in CELLS if cell.row.secure == secure]
    sampled = random.Random(SEED).sample(cells, DRAWN)
    drawn = list(dict.fromkeys([*sampled, DEATH] if secure else sampled))
    tried = run(tenant, tmp_path, drawn)
    assert {deed.fault.step for deed in tried.steps.deeds} == {cell.step for cell in drawn}
    assert all(deed.back_after is not None for deed in tried.steps.deeds if deed.fault.step != "finish")
