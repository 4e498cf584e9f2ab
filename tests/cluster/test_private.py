"""A job with differential privacy in real pods spends what was foretold, and its status says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from job_generator.compiler import compile_job
from job_generator.outlay import outlay
from job_generator.spec import FLJob
from tests.cluster.tenant import ROOT, Tenant

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(900)]

FIRST = ROOT / "manifests" / "samples" / "first.yaml"
WEIGHTS = 5
"""Of the sample's model."""


def test_a_private_job_ends_with_its_budget(tenant: Tenant, tmp_path: Path) -> None:
    """Noise of all workers, secure sums, and a budget for less than all rounds: complete, and the columns say why."""
    program, job = yaml.safe_load_all(FIRST.read_text(encoding="utf-8"))
    job["spec"]["privacy"] = {
        "mechanism": {"name": "skellam", "clip": 1.0, "noiseMultiplier": 4.0},
        "budget": {"epsilon": 2.5, "delta": 1e-5},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump_all([program, job]), encoding="utf-8")
    foretold = outlay(compile_job(FLJob.model_validate(job)), dimension=WEIGHTS)
    assert foretold is not None
    assert 1 < foretold.fit < job["spec"]["rounds"]
    tenant.kubectl("apply", "-f", str(tmp_path / "job.yaml"))
    tenant.completes("first", within=180)
    status = tenant.get("fljob", "first")["status"]
    (complete,) = [one for one in status["conditions"] if one["type"] == "Complete"]
    assert complete["reason"] == "BudgetSpent"
    assert f"is spent after {foretold.fit} of {job['spec']['rounds']} rounds" in complete["message"]
    assert status["training"]["epsilon"] == pytest.approx(foretold.epsilon, abs=1e-6)
    assert status["training"]["epsilonCovers"] == "modelOnly"
    head, row = tenant.kubectl("get", "fljob", "first").splitlines()
    assert "EPSILON" in head.split()
    assert f"{foretold.epsilon:.3g}" in row.split()
    assert [one["privacy"]["epsilon"] for one in tenant.record("first")][-1] == pytest.approx(
        foretold.epsilon
    )
