"""A few deaths within secure sums in pods, drawn from a seed; `matrix_sums.py` has them all."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.cluster.matrix_sums import SERVER, TWO, WORKER, run
from tests.cluster.tenant import Tenant

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(600)]

SEED = 27


def test_secure_sums_in_pods_get_over_deaths(tenant: Tenant, tmp_path: Path) -> None:
    """The sum is, to the bit, that of the vectors that were whole: without a worker that dies before its own is, with
    one that dies after; the round is tried again where too few are left, and where the server dies.
    """
    drawn = random.Random(SEED)
    early, late = ([one for one in WORKER if one.is_early is wanted] for wanted in (True, False))
    run(tenant, tmp_path, [drawn.choice(group) for group in (early, late, TWO, SERVER)])
