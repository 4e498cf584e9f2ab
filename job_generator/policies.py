"""NetworkPolicies: each role may speak with whom the job needs it to, and with nobody else.

Volumes need no opening: they are mounted by the node, not by the pod. A store of objects does: its address is in a
Secret, so the server may dial any by TCP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fl_core.plan import Plan
from job_generator import names
from job_generator.deployment import Network
from job_generator.processes import ROLES, Role
from job_generator.settings import ENROLMENT_PORT, Settings

Object = dict[str, Any]

CALLERS: dict[Role, tuple[Role, ...]] = {
    "scheduler": ("server", "worker"),
    "server": ("worker",),
    "worker": (),
}
"""Who dials a role."""

RESOLVER_PORTS = (53, 5353)
"""Where name servers listen: most networks ask a policy about the pod's own port, which is 5353 on OpenShift."""


def network_policies(
    plan: Plan,
    network: Network,
    settings: Settings,
    *,
    labels: dict[Role, dict[str, str]],
    stores: Sequence[str] = (),
) -> list[Object]:
    """One policy for each role; none where the job's network is open. `stores` are those the server dials."""
    if network.policy == "Open":
        return []
    return [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": names.child(plan.job, role), "labels": labels[role]},
            "spec": {
                "podSelector": names.selector(plan.job, role),
                "policyTypes": ["Ingress", "Egress"],
                "ingress": _ingress(plan, role, network, settings),
                "egress": [*_egress(plan, role, network, settings), *_to_stores(role, stores)],
            },
        }
        for role in ROLES
    ]


def _ingress(plan: Plan, role: Role, network: Network, settings: Settings) -> list[Object]:
    """The job's own processes, the operator that watches the server, Prometheus, and external sites."""
    allowed = [{"from": [{"namespaceSelector": dict(settings.scrapers)}], "ports": _tcp(names.METRICS_PORT)}]
    peers: list[Object] = [{"podSelector": names.selector(plan.job, *CALLERS[role])}] if CALLERS[role] else []
    if role == "server":
        peers.append(_operator(settings))
    if role == "server" and network.external is not None:
        allowed.append({"ports": _tcp(names.RELAY_PORT)})
    if peers:
        allowed.append({"from": peers, "ports": _tcp(names.PORT)})
    return allowed


def _egress(plan: Plan, role: Role, network: Network, settings: Settings) -> list[Object]:
    """Names, enrolment, the processes that this one dials, and what the job's author opened."""
    called = [other for other in ROLES if role in CALLERS[other]]
    own = (
        [{"to": [{"podSelector": names.selector(plan.job, *called)}], "ports": _tcp(names.PORT)}]
        if called
        else []
    )
    return [
        _names(settings),
        {"to": [_operator(settings)], "ports": _tcp(ENROLMENT_PORT)},
        *own,
        *(
            {"to": [{"ipBlock": {"cidr": one.cidr}}], **({"ports": _tcp(*one.ports)} if one.ports else {})}
            for one in network.egress
        ),
    ]


def _to_stores(role: Role, stores: Sequence[str]) -> list[Object]:
    """Any address by TCP, for the server of a job with a store that is no mounted folder."""
    dialled = role == "server" and any(not uri.startswith("file:") for uri in stores)
    return [{"ports": [{"protocol": "TCP"}]}] if dialled else []


def _names(settings: Settings) -> Object:
    """Name servers: any pod of the cluster, and those that are no pods."""
    blocks = [{"ipBlock": {"cidr": cidr}} for cidr in settings.resolvers]
    ports = [{"port": port, "protocol": protocol} for port in RESOLVER_PORTS for protocol in ("UDP", "TCP")]
    return {"to": [{"namespaceSelector": {}}, *blocks], "ports": ports}


def _operator(settings: Settings) -> Object:
    namespace = {"kubernetes.io/metadata.name": settings.operator_namespace}
    return {
        "namespaceSelector": {"matchLabels": namespace},
        "podSelector": {"matchLabels": dict(settings.operator_labels)},
    }


def _tcp(*ports: int) -> list[Object]:
    return [{"port": port, "protocol": "TCP"} for port in ports]
