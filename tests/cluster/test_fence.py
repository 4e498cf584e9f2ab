"""Two servers of one job in pods: the one that was replaced commits nothing more, and the job goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from fl_core.errors import FencedError
from tests.cluster import line
from tests.cluster.steps import pid_of, resume
from tests.cluster.tenant import Map, Tenant, local, same

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(600)]

ROUNDS = 16
NAME = "fenced"
"""Of no other test's job: its server is found by the name of its pod among all that run on this machine."""
HELD = "fljob.dev/test"
LINGERING: Map = {
    "spec": {
        "terminationGracePeriodSeconds": 110,
        "containers": [{"name": "fl", "lifecycle": {"preStop": {"sleep": {"seconds": 90}}}}],
    }
}
"""A server that is to go hears of it late, as on a node that is slow or cut off."""


def test_a_server_that_was_replaced_commits_nothing(tenant: Tenant, tmp_path: Path) -> None:
    """Stopped while another pod takes its place, the older server ends with 76 when it wakes; each round is committed
    once, and the model is that of an undisturbed job.
    """
    job = line.write(tmp_path, name=NAME, rounds=ROUNDS, server={"template": LINGERING})
    tenant.fl_submit("submit", str(job))
    tenant.eventually(NAME, lambda: tenant.round(NAME) >= 2)
    (old,) = (one["metadata"] for one in tenant.get("pods", "-l", "fljob.dev/role=server"))
    tenant.kubectl("patch", "pod", old["name"], "-p", f'{{"metadata": {{"finalizers": ["{HELD}"]}}}}')
    pid = pid_of(f"{NAME}-server-0", "fl-server")
    os.kill(pid, signal.SIGSTOP)
    tenant.kubectl("delete", "pod", old["name"], "--wait=false")
    claims = tenant.storage(NAME) / "claims"
    tenant.eventually(NAME, (claims / "0000002.json").exists)
    resume(pid)
    ended = tenant.eventually(NAME, lambda: end_of(tenant, old["name"]))
    tenant.kubectl("patch", "pod", old["name"], "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    assert ended["exitCode"] == FencedError.exit_code, ended
    tenant.completes(NAME)
    record = tenant.record(NAME)
    assert [(row["round"], row["result"]) for row in record] == [
        (number, "Committed") for number in range(1, ROUNDS + 1)
    ]
    assert {len(row["reporters"]) for row in record} == {3}
    assert same(tenant.model(NAME, tmp_path), local(line.write(tmp_path, name=NAME, rounds=ROUNDS), tmp_path))


def end_of(tenant: Tenant, pod: str) -> Map | None:
    """How the container of a pod ended; None while it runs."""
    (container,) = tenant.get("pod", pod)["status"]["containerStatuses"]
    ended: Map | None = container["state"].get("terminated")
    return ended
