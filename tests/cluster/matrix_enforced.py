"""A cluster on which NetworkPolicies count: `make test-cluster ARGS=tests/cluster/matrix_enforced.py`.

The chart's own policy and those of jobs are what stands between pods here; `tests/cluster/enforcer.py` enforces them.
Every refusal has its opposite beside it: who may dial the same address.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.network import NODE_ADDRESS
from harness.processes import system
from job_generator.names import METRICS_PORT, PORT
from job_generator.settings import ENROLMENT_PORT
from tests.cluster.enforcer import Enforcer, enforced
from tests.cluster.tenant import SYSTEM, Map, Tenant, local, same, upgrade
from tests.cluster.test_external import FIRST, SITE, begun, invited, job, worker

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(600)]

MONITORING = "monitoring"
API_PORT, OPERATORS_METRICS = 6443, 8080
DIAL = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1.5)"
IDLE = "import time; time.sleep(3600)"


@pytest.fixture(scope="module")
def policies(cluster: Any, chart: None) -> Iterator[Enforcer]:  # noqa: ARG001 - it is there
    """The cluster's name server is no pod, and only one namespace may read metrics: the chart's values say so."""
    cluster.kubectl("create", "namespace", MONITORING)
    scrapers = "networkPolicy.scrapers.matchLabels.kubernetes\\.io/metadata\\.name"
    upgrade(cluster, f"networkPolicy.resolvers={{{NODE_ADDRESS}/32}}", f"{scrapers}={MONITORING}")
    with enforced(cluster) as enforcer:
        yield enforcer


def network_of(address: str) -> str:
    """The network namespace of the pod with this address."""
    ip = system("ip", package="iproute2")
    listed = subprocess.run([ip, "netns", "list"], capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        name = line.split()[0]
        shown = subprocess.run(
            [ip, "-n", name, "-4", "addr"], capture_output=True, text=True, check=False
        ).stdout
        if f"inet {address}/" in shown:
            return name
    raise LookupError(f"no pod has the address {address}")


def reaches(source: Map, address: str, port: int) -> bool:
    """Whether something in this pod can open a TCP connection."""
    inside = [system("ip", package="iproute2"), "netns", "exec", network_of(source["status"]["podIP"])]
    line = [*inside, sys.executable, "-c", DIAL, address, str(port)]
    return subprocess.run(line, capture_output=True, check=False).returncode == 0


def stranger(tenant: Tenant, image: str) -> None:
    """A pod in the job's namespace that has nothing to do with it."""
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "one",
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", IDLE],
        "securityContext": security,
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger"}, "spec": spec}
    tenant.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    tenant.kubectl("wait", "--for=condition=Ready", "pod/stranger", "--timeout=60s")


def endless(tenant: Tenant, *names: str) -> None:
    """Begin jobs that go on as long as somebody looks at them."""
    program, document = yaml.safe_load_all(FIRST.read_text(encoding="utf-8"))
    changed = {"rounds": 10_000, "workers": {"replicas": 2}, "selection": {}}
    spec = {name: value for name, value in document["spec"].items() if name != "target"} | changed
    jobs = [{**document, "metadata": {"name": name}, "spec": spec} for name in names]
    tenant.kubectl(
        "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [program, *jobs]})
    )


def pods_of(tenant: Tenant, name: str) -> Callable[..., Map]:
    """The job's pods by role and index, once all of them run."""
    tenant.kubectl("wait", "--for=condition=Ready", f"fljob/{name}", "--timeout=120s")

    def pod(role: str, index: int = 0) -> Map:
        found = tenant.get("pods", "-l", f"fljob.dev/job={name},fljob.dev/role={role}")
        ranked: list[Map] = sorted(found, key=lambda one: str(one["metadata"]["name"]))
        return ranked[index]

    return pod


def the_operator(tenant: Tenant) -> Map:
    """The one pod of the operator."""
    system = Tenant(tenant.cluster, SYSTEM)
    (operator,) = system.get("pods", "-l", "app.kubernetes.io/component=operator")
    found: Map = operator
    return found


def test_a_job_trains_where_policies_count(tenant: Tenant, policies: Enforcer, tmp_path: Path) -> None:  # noqa: ARG001
    """It enrols, trains, reports its rounds and hands its model over, which is that of a local run."""
    program, document = yaml.safe_load_all(FIRST.read_text(encoding="utf-8"))
    (tmp_path / "program.py").write_text(program["data"]["program.py"], encoding="utf-8")
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    tenant.kubectl("apply", "-f", str(FIRST))
    tenant.completes("first", within=120)
    assert same(tenant.model("first", tmp_path), local(tmp_path / "job.yaml", tmp_path))


def test_a_site_joins_where_policies_count(tenant: Tenant, policies: Enforcer, tmp_path: Path) -> None:  # noqa: ARG001
    """Through the one port that is open to it."""
    program, document = job(30_445)
    name = begun(tenant, program, document)
    for file, text in program["data"].items():
        (tmp_path / file).write_text(text, encoding="utf-8")
    printed = invited(tenant, name, SITE, tmp_path / "file")
    assert printed.returncode == 0, printed.stderr
    with worker(tmp_path / "file", tmp_path, tmp_path / "identity") as process:
        tenant.completes(name)
        assert process.wait(60) == 0, process.stderr and process.stderr.read()


def test_who_reaches_whom(tenant: Tenant, policies: Enforcer) -> None:
    """The job's own processes reach what they need; strangers, other workers and the outside are out of reach."""
    endless(tenant, "first", "other")
    first, second = pods_of(tenant, "first"), pods_of(tenant, "other")
    stranger(tenant, first("worker")["spec"]["containers"][0]["image"])
    outside = tenant.get("pod", "stranger")
    operator = the_operator(tenant)
    address = {role: first(role)["status"]["podIP"] for role in ("server", "scheduler", "worker")}
    control = operator["status"]["podIP"]
    policies.settled()

    me, neighbour = first("worker"), first("worker", 1)
    for source, target, port, may in (
        (me, address["server"], PORT, True),
        (me, address["scheduler"], PORT, True),
        (me, control, ENROLMENT_PORT, True),
        (first("server"), address["scheduler"], PORT, True),
        (operator, address["server"], PORT, True),
        (operator, NODE_ADDRESS, API_PORT, True),
        (outside, NODE_ADDRESS, API_PORT, True),
        (me, NODE_ADDRESS, API_PORT, False),
        (me, neighbour["status"]["podIP"], METRICS_PORT, False),
        (me, address["server"], METRICS_PORT, False),
        (me, outside["status"]["podIP"], PORT, False),
        (first("server"), address["worker"], METRICS_PORT, False),
        (operator, address["scheduler"], PORT, False),
        (second("worker"), second("server")["status"]["podIP"], PORT, True),
        (second("worker"), address["server"], PORT, False),
        (outside, address["server"], PORT, False),
        (outside, address["scheduler"], PORT, False),
        (outside, address["worker"], METRICS_PORT, False),
        (outside, control, ENROLMENT_PORT, False),
        (outside, control, OPERATORS_METRICS, False),
    ):
        who, whom = source["metadata"]["name"], f"{target}:{port}"
        assert reaches(source, target, port) == may, (
            f"{who} -> {whom}: expected {may}, with {address}, {control}"
        )


def test_prometheus_reads(tenant: Tenant, policies: Enforcer) -> None:
    """From the namespace of the values, and from no other: jobs' metrics and the operator's."""
    endless(tenant, "first")
    first = pods_of(tenant, "first")
    monitoring = Tenant(tenant.cluster, MONITORING)
    for place in (tenant, monitoring):
        stranger(place, first("worker")["spec"]["containers"][0]["image"])
    operator = the_operator(tenant)
    policies.settled()
    for place, may in ((monitoring, True), (tenant, False)):
        prometheus = place.get("pod", "stranger")
        for role in ("server", "scheduler", "worker"):
            assert reaches(prometheus, first(role)["status"]["podIP"], METRICS_PORT) == may, role
            assert not reaches(prometheus, first(role)["status"]["podIP"], PORT), role
        assert reaches(prometheus, operator["status"]["podIP"], OPERATORS_METRICS) == may
