"""A node that is lost with everything on it, and comes back: `make test-cluster ARGS=tests/cluster/matrix_node.py`.

It takes minutes, most of which Kubernetes waits before it gives a node up, so it runs by its name only. The node is
the only one for real pods, so that new ones start when it is back: here on the same machine, with the same volume.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.cluster import line
from tests.cluster.remade import check_line
from tests.cluster.steps import pids_of, resume
from tests.cluster.tenant import Tenant

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(900)]

NAME = "stranded"
ROUNDS = 20


def test_a_job_gets_over_the_loss_of_its_node(tenant: Tenant, tmp_path: Path) -> None:
    """Its pods are replaced, each round is committed once, and each model is that of the round's recorded workers."""
    tenant.fl_submit("submit", str(line.write(tmp_path, name=NAME, rounds=ROUNDS)))
    tenant.eventually(NAME, lambda: tenant.round(NAME) >= 2)
    pods = tenant.get("pods", "-l", f"fljob.dev/job={NAME}")
    uids = {pod["metadata"]["uid"] for pod in pods}
    hosts = {pod["spec"].get("hostname", pod["metadata"]["name"]) for pod in pods}
    (kubelet,) = pids_of("/kubelet.json")
    for pid in (kubelet, *(pid for host in hosts for pid in pids_of("fl-", host))):
        os.kill(pid, signal.SIGSTOP)
    try:
        tenant.eventually(NAME, lambda: all(ends(tenant, uid) for uid in uids), within=300)
        assert tenant.round(NAME) < ROUNDS
    finally:
        resume(kubelet)
    tenant.completes(NAME)
    assert uids.isdisjoint(
        pod["metadata"]["uid"] for pod in tenant.get("pods", "-l", f"fljob.dev/job={NAME}")
    )
    check_line(tenant, NAME, tmp_path)


def ends(tenant: Tenant, uid: str) -> bool:
    """Whether Kubernetes has given this pod up."""
    there = {pod["metadata"]["uid"]: pod["metadata"] for pod in tenant.get("pods")}
    return uid not in there or "deletionTimestamp" in there[uid]
