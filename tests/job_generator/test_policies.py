from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from job_generator.compiler import compile_job
from job_generator.manifests import Rendering, children
from job_generator.settings import Settings
from job_generator.source import Document

Map = dict[str, Any]
Build = Callable[..., Map]

OPERATOR = {"app.kubernetes.io/name": "fljob", "app.kubernetes.io/component": "operator"}


def policies(document: Map, **settings: Any) -> dict[str, Map]:
    """The specs of a job's NetworkPolicies by role."""
    job = Document(document).job()
    objects = children(Rendering(job=job, plan=compile_job(job), settings=Settings(**settings)))
    return {
        one["metadata"]["labels"]["fljob.dev/role"]: one["spec"]
        for one in objects
        if one["kind"] == "NetworkPolicy"
    }


def pod(role: str, *, job: str = "digits", namespace: str = "default", labels: Map | None = None) -> Map:
    own = {"fljob.dev/job": job, "fljob.dev/role": role} if labels is None else labels
    return {"labels": own, "namespace": {"kubernetes.io/metadata.name": namespace}}


def selects(selector: Map, labels: Map) -> bool:
    """Whether a label selector of Kubernetes takes these labels."""
    match = selector.get("matchLabels", {}).items() <= labels.items()
    return match and all(
        labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", ())
    )


def may(rules: list[Map], peer: Map, port: int, *, side: str, protocol: str = "TCP") -> bool:
    """Whether the rules of one direction allow this peer at this port, as Kubernetes reads them."""

    def is_peer(one: Map) -> bool:
        if "ipBlock" in one:
            return one["ipBlock"]["cidr"] == peer.get("cidr")
        if "labels" not in peer:
            return False
        there = (
            selects(one["namespaceSelector"], peer["namespace"])
            if "namespaceSelector" in one
            else peer["namespace"]["kubernetes.io/metadata.name"] == "default"
        )
        return there and selects(one.get("podSelector", {}), peer["labels"])

    return any(
        (side not in rule or any(is_peer(one) for one in rule[side]))
        and ("ports" not in rule or {"port": port, "protocol": protocol} in rule["ports"])
        for rule in rules
    )


def dials(found: dict[str, Map], caller: str, called: str, port: int = 7443) -> bool:
    """Whether one role's pod may open a connection to another's: both policies must allow it."""
    out = may(found[caller]["egress"], pod(called), port, side="to")
    return out and may(found[called]["ingress"], pod(caller), port, side="from")


def test_who_dials_whom(job_map: Build) -> None:
    """Workers dial server and scheduler, the server dials the scheduler, and there is no other way."""
    found = policies(job_map())
    allowed = {(one, other) for one in found for other in found if dials(found, one, other)}
    assert allowed == {("worker", "server"), ("worker", "scheduler"), ("server", "scheduler")}


def test_strangers(job_map: Build) -> None:
    """Pods of another job, of another namespace or of nobody reach no process and are reached by none."""
    found = policies(job_map())
    strangers = [pod("worker", job="other"), pod("worker", namespace="lab"), pod("worker", labels={})]
    for spec in found.values():
        for stranger in strangers:
            assert not may(spec["ingress"], stranger, 7443, side="from")
            assert not may(spec["egress"], stranger, 7443, side="to")
            assert not may(spec["egress"], stranger, 443, side="to")
        assert set(spec["policyTypes"]) == {"Ingress", "Egress"}


def test_the_operator(job_map: Build) -> None:
    """Every pod enrols with the operator; the operator dials the server and nobody else."""
    found = policies(job_map(), operator_namespace="ops")
    operator = pod("", namespace="ops", labels=OPERATOR)
    for spec in found.values():
        assert may(spec["egress"], operator, 8443, side="to")
        assert not may(spec["egress"], pod("", namespace="other", labels=OPERATOR), 8443, side="to")
    dialled = [role for role, spec in found.items() if may(spec["ingress"], operator, 7443, side="from")]
    assert dialled == ["server"]


@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
@pytest.mark.parametrize("port", [53, 5353], ids=["as usual", "OpenShift"])
def test_names(job_map: Build, port: int, protocol: str) -> None:
    """Every pod may ask for names: a pod of the cluster at its own port, or a name server that is none."""
    resolver = {"cidr": "10.250.0.1/32"}
    for spec in policies(job_map(), resolvers=("10.250.0.1/32",)).values():
        for server in (pod("", namespace="dns", labels={}), resolver):
            assert may(spec["egress"], server, port, side="to", protocol=protocol)
        assert not may(spec["egress"], resolver, 443, side="to")


def test_metrics(job_map: Build) -> None:
    """Metrics are open to the namespaces of the settings, to all of them without any."""
    prometheus = pod("", namespace="monitoring", labels={"app": "prometheus"})
    for spec in policies(job_map()).values():
        assert may(spec["ingress"], prometheus, 9090, side="from")
    only = {"matchLabels": {"kubernetes.io/metadata.name": "observability"}}
    for spec in policies(job_map(), scrapers=only).values():
        assert not may(spec["ingress"], prometheus, 9090, side="from")


@pytest.mark.parametrize(("ports", "allowed"), [([443, 9000], {443, 9000}), ([], {443, 9000, 1})])
def test_the_authors_openings(job_map: Build, ports: list[int], allowed: set[int]) -> None:
    """What the author opened every pod may dial, at the ports named or at all."""
    for spec in policies(job_map(network={"egress": [{"cidr": "10.1.0.0/16", "ports": ports}]})).values():
        reached = {
            port for port in (443, 9000, 1) if may(spec["egress"], {"cidr": "10.1.0.0/16"}, port, side="to")
        }
        assert reached == allowed


@pytest.mark.parametrize(
    ("uri", "dialling"), [("s3://models/digits", ["server"]), ("file:///mnt/digits", []), (None, [])]
)
def test_a_store_of_objects(job_map: Build, uri: str | None, dialling: list[str]) -> None:
    """The server, and nobody else, may dial whatever keeps its storage, as its address is in a Secret."""
    found = policies(job_map(server={"storage": {"uri": uri} if uri else {}}))
    everything = {"ports": [{"protocol": "TCP"}]}
    assert [role for role, spec in found.items() if everything in spec["egress"]] == dialling
    assert not any(
        "from" not in rule and "ports" not in rule for spec in found.values() for rule in spec["ingress"]
    )


def test_external_sites(job_map: Build) -> None:
    """Anybody may dial the relay of a job with external sites; gRPC and the other processes stay closed."""
    document = job_map(sites=[{"name": "a", "external": {}}], network={"external": {"hostname": "a.b"}})
    anybody = {"cidr": "0.0.0.0/0"}
    found = policies(document)
    assert [role for role in found if may(found[role]["ingress"], anybody, 7444, side="from")] == ["server"]
    for port in (7443, 9090):
        assert not any(may(spec["ingress"], anybody, port, side="from") for spec in found.values())
    assert dials(found, "worker", "server")
    operator = pod("", namespace="fljob-system", labels=OPERATOR)
    assert may(found["server"]["ingress"], operator, 7443, side="from")
    assert not may(policies(job_map())["server"]["ingress"], anybody, 7444, side="from")


def test_open(job_map: Build) -> None:
    """A job whose network is open has no policies."""
    assert policies(job_map(network={"policy": "Open"})) == {}


def test_each_policy_is_its_roles(job_map: Build) -> None:
    """A policy holds for the pods of its role and for no others."""
    for role, spec in policies(job_map()).items():
        held = [
            other
            for other in ("server", "scheduler", "worker")
            if selects(spec["podSelector"], pod(other)["labels"])
        ]
        assert held == [role]
        assert not selects(spec["podSelector"], pod(role, job="other")["labels"])
