"""Jobs train in real pods, from the chart and the images as users get them, to the same model as a local run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.binaries import binary
from tests.cluster import line
from tests.cluster.remade import check_line
from tests.cluster.tenant import ROOT, Tenant, load_images, local, same

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(900)]

FIRST = ROOT / "manifests" / "samples" / "first.yaml"
DIGITS = ROOT / "examples" / "digits"
ROUNDS = 40
"""Of half a second each: long enough to be disturbed."""


@pytest.fixture(scope="module")
def paddle(cluster: Any) -> None:  # noqa: ARG001 - its node
    """Workers for Paddle."""
    load_images("paddle")


def test_the_first_job_trains_in_pods(tenant: Tenant, tmp_path: Path) -> None:
    """The sample of the docs completes in two minutes, with its metric, and its model is that of a local run."""
    program, job = yaml.safe_load_all(FIRST.read_text(encoding="utf-8"))
    (tmp_path / "program.py").write_text(program["data"]["program.py"], encoding="utf-8")
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
    tenant.kubectl("apply", "-f", str(FIRST))
    tenant.completes("first", within=120)
    assert tenant.shown("first")["metric"].startswith("accuracy=0.9")
    assert "Complete" in tenant.kubectl("get", "fljob", "first")
    assert same(tenant.model("first", tmp_path), local(tmp_path / "job.yaml", tmp_path))


@pytest.mark.usefixtures("paddle")
def test_digits_trains_with_paddle_to_the_same_model_as_a_local_run(tenant: Tenant, tmp_path: Path) -> None:
    """Applied, watched and waited for with kubectl alone: the columns move with the rounds, the example reaches its
    stated accuracy, and each weight is that of a local run, to the bit.
    """
    kubectl = [str(binary("kubectl")), "--kubeconfig", str(tenant.cluster.kubeconfig), "-n", tenant.namespace]
    tenant.kubectl("apply", "-k", str(DIGITS))
    with tenant.beside(*kubectl, "get", "fljob", "digits", "-w") as watching:
        tenant.kubectl("wait", "--for=condition=Complete", "fljob/digits", "--timeout=600s")
        watching.terminate()
        seen = watching.communicate(timeout=30)[0].splitlines()
    rounds = list(dict.fromkeys(int(found[1]) for one in seen if (found := re.search(r"\b(\d+)/20\b", one))))
    assert len(rounds) > 3, seen
    assert rounds == sorted(rounds)
    assert len(set(re.findall(r"accuracy=[0-9.]+", "\n".join(seen)))) > 2, seen
    assert "10/10" in seen[-1]
    assert tenant.get("fljob", "digits")["status"]["training"]["metrics"]["accuracy"] >= 0.95
    assert same(tenant.model("digits", tmp_path), local(DIGITS / "job.yaml", tmp_path))


@pytest.mark.parametrize("role", ["server", "scheduler", "worker"])
def test_a_pod_that_is_killed_costs_no_round(tenant: Tenant, role: str, tmp_path: Path) -> None:
    """Deleted while the job trains, a pod comes back: each round is committed once, and each model is that of the
    round's recorded workers, of whom none is missing unless it was a worker's pod.
    """
    tenant.fl_submit("submit", str(line.write(tmp_path, rounds=ROUNDS)))
    tenant.eventually("line", lambda: tenant.round("line") >= 2)
    pod = tenant.get("pods", "-l", f"fljob.dev/role={role}")[0]["metadata"]["name"]
    tenant.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
    assert tenant.round("line") < ROUNDS
    tenant.completes("line")
    rows = check_line(tenant, "line", tmp_path)
    assert role == "worker" or {len(row["reporters"]) for row in rows} == {3}, rows
