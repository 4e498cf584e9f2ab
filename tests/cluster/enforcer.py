"""NetworkPolicies that count: nftables let through what the policies of a cluster allow, and nothing else.

The bundled cluster has no network plug-in that heeds policies. This one does, for one node, as the Kubernetes
documentation defines them: a pod that some policy selects for a direction may do in it what one of those policies
allows. Answers always pass, and so does what the node itself dials, as kubelet's probes must. Like most plug-ins it
sees a pod's own address and port, behind those of a Service.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from harness.objects import everywhere
from harness.processes import system

Map = dict[str, Any]
TABLE: Final = "fljob_policies"
LOOK_SECONDS: Final = 0.2
DIRECTIONS: Final = {
    "Ingress": ("ingress", "from", "saddr", "daddr"),
    "Egress": ("egress", "to", "daddr", "saddr"),
}
"""Of each type of policy: its rules, their peers, and where a packet names the peer and the pod itself."""


@dataclass(frozen=True)
class Pod:
    """A pod that has an address."""

    namespace: str
    labels: Map
    address: str


def selects(selector: Map, labels: Map) -> bool:
    """Whether a label selector matches these labels."""
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(_expressed(one, labels) for one in selector.get("matchExpressions", ()))


def _expressed(one: Map, labels: Map) -> bool:
    has, among = one["key"] in labels, labels.get(one["key"]) in one.get("values", ())
    return {"In": among, "NotIn": not among, "Exists": has, "DoesNotExist": not has}[str(one["operator"])]


def ruleset(policies: Iterable[Map], pods: Iterable[Pod], namespaces: dict[str, Map]) -> str:
    """What `nft -f` takes: a chain for each pod and direction in which it is isolated, that drops what is left over.

    `namespaces` are their labels by name.
    """
    policies, pods = list(policies), list(pods)
    chains, jumps = [], {kind: [] for kind in DIRECTIONS}  # type: dict[str, list[str]]
    for number, pod in enumerate(pods):
        for kind in DIRECTIONS:
            own = [one for one in policies if _isolates(one, pod, kind)]
            if not own:
                continue
            allowed = [line for one in own for line in _allowed(one, kind, pods, namespaces)]
            chain = f"{kind.lower()}_{number}"
            chains += [f"chain {chain} {{", *(f"{line} return" for line in allowed), "drop", "}"]
            jumps[kind].append(f"ip {DIRECTIONS[kind][3]} {pod.address} jump {chain}")
    hooks = {"forward": [*jumps["Egress"], *jumps["Ingress"]], "input": jumps["Egress"]}
    for hook, lines in hooks.items():
        head = [f"chain {hook} {{", f"type filter hook {hook} priority 10; policy accept;"]
        chains += [*head, "ct state established,related accept", *lines, "}"]
    return "\n".join(
        [f"add table ip {TABLE}", f"flush table ip {TABLE}", f"table ip {TABLE} {{", *chains, "}\n"]
    )


def _isolates(policy: Map, pod: Pod, kind: str) -> bool:
    spec = policy["spec"]
    kinds = spec.get("policyTypes", ["Ingress"])
    return (
        kind in kinds
        and policy["metadata"]["namespace"] == pod.namespace
        and selects(spec.get("podSelector", {}), pod.labels)
    )


def _allowed(policy: Map, kind: str, pods: list[Pod], namespaces: dict[str, Map]) -> Iterator[str]:
    """The packets that the rules of one policy let through."""
    rules, peers, side, _ = DIRECTIONS[kind]
    for rule in policy["spec"].get(rules, ()):
        places = [""]
        if rule.get(peers):
            found = {place for one in rule[peers] for place in _places(one, policy, pods, namespaces)}
            places = [f"ip {side} {{ {', '.join(sorted(found))} }} "] if found else []
        for place in places:
            yield from (f"{place}{port}" for port in _ports(rule))


def _places(peer: Map, policy: Map, pods: list[Pod], namespaces: dict[str, Map]) -> Iterator[str]:
    if block := peer.get("ipBlock"):
        assert "except" not in block, "no policy here has exceptions"
        yield block["cidr"]
        return
    for pod in pods:
        near = pod.namespace == policy["metadata"]["namespace"]
        among = (
            selects(peer["namespaceSelector"], namespaces[pod.namespace])
            if "namespaceSelector" in peer
            else near
        )
        if among and selects(peer.get("podSelector", {}), pod.labels):
            yield pod.address


def _ports(rule: Map) -> Iterator[str]:
    """Matches of the ports; one that matches all where none is named."""
    for port in rule.get("ports") or [{}]:
        protocol = port.get("protocol", "TCP").lower()
        if "port" in port:
            yield f"{protocol} dport {int(port['port'])}"
        else:
            yield f"meta l4proto {protocol}" if port else ""


class Enforcer:
    """Renders the policies again whenever something changed; `settled` waits until it has seen what is there now."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._nft = str(system("nft", package="nftables"))
        self._last = ""
        self._looks = 0
        self._looked = threading.Condition()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Enforce from now on."""
        self._thread.start()
        self.settled()

    def end(self) -> None:
        """Let everything through again."""
        self._over.set()
        self._thread.join()
        self._load(f"add table ip {TABLE}\ndelete table ip {TABLE}\n")

    def settled(self) -> None:
        """Wait for a whole look that began later than this call."""
        with self._looked:
            wanted = self._looks + 2
            assert self._looked.wait_for(lambda: self._looks >= wanted, timeout=30), "nobody enforces"

    def _run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            with suppress(OSError):  # the API server may be busy
                text = self._rendered()
                if text != self._last:
                    self._load(text)
                    self._last = text
                with self._looked:
                    self._looks += 1
                    self._looked.notify_all()

    def _rendered(self) -> str:
        namespaces = {
            one["metadata"]["name"]: one["metadata"].get("labels", {})
            for one in everywhere(self._cluster, "namespaces")
        }
        pods = [
            Pod(one["metadata"]["namespace"], one["metadata"].get("labels", {}), one["status"]["podIP"])
            for one in everywhere(self._cluster, "pods")
            if one["status"].get("podIP") and one["status"]["phase"] in ("Pending", "Running")
        ]
        known = [pod for pod in pods if pod.namespace in namespaces]
        return ruleset(everywhere(self._cluster, "networkpolicies"), known, namespaces)

    def _load(self, text: str) -> None:
        done = subprocess.run([self._nft, "-f", "-"], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stderr}\n{text}"


@contextmanager
def enforced(cluster: Any) -> Iterator[Enforcer]:
    """NetworkPolicies count meanwhile."""
    enforcer = Enforcer(cluster)
    enforcer.start()
    try:
        yield enforcer
    finally:
        enforcer.end()
