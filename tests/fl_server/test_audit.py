"""An attack on workers, their sum and the server together proves no more leakage than the job's plan claims.

The attack and its arithmetic are those of the audit of the mechanisms. Masks are left out: they come off to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random as Seeded
from typing import Any

import numpy as np
import pytest

from fl_core.extensions import Extension
from fl_core.plan import Plan, SecureAggregation
from fl_core.plan import Privacy as Settings
from fl_core.privacy.accountant import epsilon
from fl_core.privacy.job import NEIGHBOURS, cost_of
from fl_core.privacy.stream import Random
from fl_core.secagg.job import whole_sum_of
from fl_core.weights import Manifest
from fl_server.privacy import Privacy as Server
from fl_worker.privacy import Privacy as Worker
from tests.fl_core.privacy.test_audit import CANARY, DELTA, audited
from tests.fl_core.secagg.cast import total_of

SECURE = SecureAggregation(profile="cross-silo", tolerate=None, bits=32, max_examples=100)
NOTHING = {"w": np.zeros(CANARY.size, "f4")}
HONEST = 2
"""Of the three who are at least in a sum; the third tells the server that it has handed in zeros without noise."""


def job(plan_of: Callable[..., Plan], name: str, *, noise: float) -> Plan:
    """A job of four workers of whom three open a sum, one of them corrupt."""
    mechanism = Extension(name=name, options={"clip": 1.0, "noise_multiplier": noise})
    own = Settings(unit="worker", mechanism=mechanism, epsilon=1e6, delta=DELTA, corrupt=1, measured=False)
    return plan_of(privacy=own, secure_aggregation=SECURE, per_round=4, minimum=3, workers=4)


def seen(plan: Plan, folder: Path) -> Callable[[Any, Random], float]:
    """What the attacker reads off what the server releases: the canary's share in it."""
    manifest = Manifest.of(NOTHING)
    whole = whole_sum_of(plan, manifest)
    assert whole is not None

    def run(canary: Any, random: Random) -> float:
        worker = Worker(plan, random)
        held = [{"w": 9 * canary.astype("f4")}, *[NOTHING] * (HONEST - 1)]
        vectors = [whole.encode(worker.concealed(update)) for update in held]
        summed = whole.decode(total_of(whole.layout, vectors), members=HONEST)
        server._random = random
        return float(server.released(summed).mean()["w"] @ CANARY)

    server = Server(plan, folder / f"ledger-{plan.digest}.jsonl")
    server.open(None, begun=False)
    server.settle(manifest)
    server.charge(1, 1)
    return run


@pytest.mark.parametrize("name", ["gaussian", "skellam"])
def test_a_canary_is_found_in_a_job_no_more_often_than_claimed(
    plan_of: Callable[..., Plan], tmp_path: Path, name: str
) -> None:
    """The attack proves some leakage, less than the plan's epsilon for a round, and more where noise is missing."""
    plan, weaker = job(plan_of, name, noise=1.0), job(plan_of, name, noise=0.2)
    claimed = epsilon(cost_of(plan, dimension=CANARY.size), delta=DELTA, neighbours=NEIGHBOURS)

    def chance(seed: int) -> Random:
        return Seeded(seed).randbytes

    assert 0.3 < audited(seen(plan, tmp_path), chance) < claimed
    assert audited(seen(weaker, tmp_path), chance) > claimed
