"""What a job will spend is said before it starts, and it is what the accountant says of as many rounds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from fl_core.plan import Plan
from fl_core.privacy.accountant import forecast
from fl_core.privacy.costs import GaussianCost, Neighbours
from job_generator.compiler import compile_job
from job_generator.outlay import Outlay, outlay, with_noise
from job_generator.problems import InvalidJobError
from job_generator.spec import FLJob


@pytest.fixture
def plan(job_map: Callable[..., dict[str, Any]]) -> Callable[..., Plan]:
    def build(name: str = "gaussian", *, epsilon: float = 8, noise: float = 2.0, **changes: Any) -> Plan:
        privacy = {
            "mechanism": {"name": name, "clip": 1.0, "noiseMultiplier": noise},
            "budget": {"epsilon": epsilon, "delta": 1e-5},
        }
        return compile_job(FLJob.model_validate(job_map(privacy=privacy, **changes)))

    return build


def spent(plan: Plan, dimension: int | None = None) -> Outlay:
    found = outlay(plan, dimension=dimension)
    assert found is not None
    return found


def test_a_job_whose_rounds_all_fit(plan: Callable[..., Plan]) -> None:
    """Epsilon is that of all rounds, whatever more would fit."""
    found = spent(plan(rounds=5))
    wanted = forecast(
        [GaussianCost(noise_multiplier=2.0)], rounds=5, delta=1e-5, neighbours=Neighbours.ADD_OR_REMOVE
    )
    assert (found.epsilon, found.fit, found.enough, found.shortfall) == (pytest.approx(wanted), 9, None, "")


def test_a_job_that_its_budget_ends(plan: Callable[..., Plan]) -> None:
    """It is said how many rounds fit, and the least noise with which all would, to three digits."""
    long = plan(rounds=50)
    found = spent(long)
    assert (found.fit, found.epsilon <= 8) == (9, True)
    assert found.enough is not None
    assert found.shortfall == (
        f"the privacy budget ends the job after 9 of 50 rounds; noiseMultiplier {found.enough:g} would do for all"
    )
    assert spent(with_noise(long, found.enough)).fit >= 50
    assert spent(with_noise(long, found.enough - 0.02)).fit < 50


def test_a_budget_without_room_is_refused(plan: Callable[..., Plan]) -> None:
    """Where not one round fits, the field is named, with what one costs and what would do for all."""
    with pytest.raises(InvalidJobError) as told:
        plan(epsilon=1, rounds=50)
    sentence = str(told.value)
    assert sentence.startswith(
        "spec.privacy.budget.epsilon: 1 has room for none of 50 rounds: one costs 2.17;"
    )
    assert "spec.privacy.mechanism.noiseMultiplier 28.7 would do for all 50 rounds" in sentence


def test_whole_numbers_cost_a_little_more(plan: Callable[..., Plan]) -> None:
    """Skellam's cost is that of Gaussian noise at least, which is said while the model's size is unknown."""
    job = plan("skellam", rounds=5)
    unknown, known = spent(job), spent(job, 100_000)
    assert (unknown.exact, known.exact) == (False, True)
    assert unknown.epsilon < known.epsilon < 1.03 * unknown.epsilon
    assert "(1 of 4 in a round)" in known.adversary


def test_nothing_heavy_is_loaded_to_reckon_epsilon() -> None:
    """Reading, compiling and checking a job stays quick."""
    code = (
        "import sys, job_generator.outlay, job_generator.compiler, fl_core.privacy.job, fl_core.privacy.ledger\n"
        "print([name for name in ('dp_accounting', 'scipy', 'cryptography') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
