"""Levels 2 and 3: the API server with its store; then controllers, scheduler, and nodes that are only said to be."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from pathlib import Path

from harness.binaries import binary
from harness.certificates import Authority, Pair, token_keys
from harness.cluster import API_PORT, SERVER, Cluster, kubeconfig
from harness.network import API_SERVICE, NODE_ADDRESS, SERVICES
from harness.objects import objects
from harness.processes import Daemon

STORE = "http://127.0.0.1:2379"
PEERS = "http://127.0.0.1:2380"
STAGES = Path(__file__).parent / "stages"
FAKE_NODES = ("fake-1", "fake-2", "fake-3")
FAKE = {"kwok.x-k8s.io/node": "fake"}
TAINTS = [{"key": key, "value": value, "effect": "NoSchedule"} for key, value in FAKE.items()]
# What a pod's spec says to live on a fake node and on no other.
ON_FAKE_NODES: dict[str, object] = {"nodeSelector": FAKE, "tolerations": TAINTS}
API_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "127.0.0.1",
    API_SERVICE,
    NODE_ADDRESS,
)
# The defaults of both make 12 pods a second; these do not hold a test back.
QUICK = ("--kube-api-qps=1000", "--kube-api-burst=2000")


def start_api(folder: Path, *, level: int) -> Cluster:
    """Level 2: etcd and the API server, ready; raises NotReadyError."""
    secrets, logs = folder / "secrets", folder / "logs"
    secrets.mkdir(mode=0o700)
    logs.mkdir()
    authority = Authority(secrets)
    administrator = authority.sign("admin", groups=("system:masters",))
    _start_store(folder, logs)
    api = Daemon("kube-apiserver", _api_command(authority, secrets), logs)
    api.ready(lambda: answers(f"{SERVER}/readyz", authority, administrator))
    return Cluster(level, folder, authority, administrator, kubeconfig(authority, administrator, "admin"))


def _start_store(folder: Path, logs: Path) -> None:
    command: list[str | Path] = [
        binary("etcd"),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={STORE}",
        f"--advertise-client-urls={STORE}",
        f"--listen-peer-urls={PEERS}",
        f"--initial-advertise-peer-urls={PEERS}",
        f"--initial-cluster=default={PEERS}",
        "--unsafe-no-fsync",  # nothing of it outlives the cluster
    ]
    Daemon("etcd", command, logs).ready(lambda: answers(f"{STORE}/health"))


def _api_command(authority: Authority, secrets: Path) -> list[str | Path]:
    server = authority.sign("kube-apiserver", hosts=API_NAMES)
    to_kubelets = authority.sign("kube-apiserver-kubelet-client", groups=("system:masters",))
    private, public = token_keys(secrets)
    return [
        binary("kube-apiserver"),
        f"--etcd-servers={STORE}",
        f"--secure-port={API_PORT}",
        "--bind-address=0.0.0.0",
        f"--advertise-address={NODE_ADDRESS}",
        f"--tls-cert-file={server.certificate}",
        f"--tls-private-key-file={server.key}",
        f"--client-ca-file={authority.certificate}",
        f"--kubelet-client-certificate={to_kubelets.certificate}",
        f"--kubelet-client-key={to_kubelets.key}",
        f"--kubelet-certificate-authority={authority.certificate}",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={public}",
        f"--service-account-signing-key-file={private}",
        f"--service-cluster-ip-range={SERVICES}",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
    ]


def start_controllers(cluster: Cluster) -> None:
    """Level 3: the controller manager, the scheduler and fake nodes, ready; raises NotReadyError."""
    secrets = cluster.folder / "secrets"
    controllers = cluster.user("system:kube-controller-manager")
    Daemon(
        "kube-controller-manager",
        [
            binary("kube-controller-manager"),
            f"--kubeconfig={controllers}",
            f"--service-account-private-key-file={secrets / 'tokens.key'}",
            f"--root-ca-file={cluster.authority.certificate}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            *QUICK,
        ],
        cluster.logs,
    ).ready(lambda: objects(cluster, "default", "serviceaccount", "default") is not None)
    scheduler = cluster.user("system:kube-scheduler")
    Daemon(
        "kube-scheduler",
        [binary("kube-scheduler"), f"--kubeconfig={scheduler}", "--leader-elect=false", *QUICK],
        cluster.logs,
    )
    _start_fake_nodes(cluster)


def _start_fake_nodes(cluster: Cluster) -> None:
    """Nodes whose pods live as `stages/` says; beside a real node they take only pods that tolerate them."""
    command: list[str | Path] = [
        binary("kwok"),
        f"--kubeconfig={cluster.kubeconfig}",
        *(f"--config={stage}" for stage in sorted(STAGES.glob("*.yaml"))),
        "--manage-all-nodes=false",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        "--node-lease-duration-seconds=40",
    ]
    kwok = Daemon("kwok", command, cluster.logs)
    for name in FAKE_NODES:
        metadata = {"name": name, "annotations": FAKE, "labels": {**FAKE, "kubernetes.io/hostname": name}}
        spec = {"taints": TAINTS} if cluster.level > 3 else {}
        cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec})
    kwok.ready(lambda: all(node_ready(cluster, name) for name in FAKE_NODES))


def node_ready(cluster: Cluster, name: str) -> bool:
    """Whether the API server has the node, ready."""
    node = objects(cluster, "", "node", name)
    conditions = node["status"].get("conditions", ()) if node else ()
    return any((one["type"], one["status"]) == ("Ready", "True") for one in conditions)


def answers(url: str, authority: Authority | None = None, pair: Pair | None = None) -> bool:
    """Whether a GET of this address answers 200."""
    context = None
    if authority and pair:
        context = ssl.create_default_context(cafile=authority.certificate)
        context.load_cert_chain(pair.certificate, pair.key)
    try:
        with urllib.request.urlopen(url, context=context, timeout=2) as answer:  # noqa: S310  # our own address
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
