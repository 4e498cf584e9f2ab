"""Level 4, second half: a kubelet, the addresses of services, and their names."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from harness.binaries import binary
from harness.certificates import Authority
from harness.cluster import Cluster
from harness.control_plane import answers, node_ready
from harness.network import NODE_ADDRESS, PODS
from harness.processes import Daemon, system
from harness.runtime import SOCKET

NODE = "node-1"
DNS_READY = "127.0.0.1:8181"
# What kubelet sets for the whole machine; here it sets files of its own.
TUNABLES = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops")


def start_node(cluster: Cluster) -> None:
    """Start the node `node-1`, DNS and the services' addresses, all ready; raises NotReadyError."""
    _shield_kernel(cluster.folder / "tunables")
    kubelet = Daemon("kubelet", _kubelet_command(cluster), cluster.logs)
    _start_services(cluster)
    _start_names(cluster)
    kubelet.ready(lambda: node_ready(cluster, NODE))


def _shield_kernel(folder: Path) -> None:
    """Put files over the kernel's settings that kubelet would change, so that the machine keeps its own."""
    folder.mkdir()
    for name in TUNABLES:
        setting = Path("/proc/sys") / name
        copy = folder / setting.name
        copy.write_text(setting.read_text())
        subprocess.run([system("mount", package="mount"), "--bind", copy, setting], check=True)


def _kubelet_command(cluster: Cluster) -> list[str | Path]:
    configuration = cluster.folder / "kubelet.json"
    configuration.write_text(json.dumps(_kubelet_configuration(cluster.folder, cluster.authority), indent=2))
    credentials = cluster.user(f"system:node:{NODE}", groups=("system:nodes",))
    return [
        binary("kubelet"),
        f"--config={configuration}",
        f"--kubeconfig={credentials}",
        f"--root-dir={cluster.folder / 'kubelet'}",
        f"--hostname-override={NODE}",
        f"--node-ip={NODE_ADDRESS}",
    ]


def _kubelet_configuration(folder: Path, authority: Authority) -> dict[str, object]:
    server = authority.sign("kubelet-server", hosts=(NODE, NODE_ADDRESS))
    resolver = folder / "resolv.conf"
    resolver.touch()  # pods ask our DNS, which knows nothing of the world outside
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "tlsCertFile": str(server.certificate),
        "tlsPrivateKeyFile": str(server.key),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "clusterDNS": [NODE_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": str(resolver),
        "volumePluginDir": str(folder / "volume-plugins"),
        # Its own cgroup can be removed afterwards.
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "cgroupRoot": f"/{folder.name}",
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        # As many as `PODS` has addresses for.
        "maxPods": 250,
        # By itself it would wait for up to five minutes before it starts a container again.
        "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
        # A test machine may be fuller than a node should be.
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
    }


def _start_services(cluster: Cluster) -> None:
    command: list[str | Path] = [
        binary("kube-proxy"),
        f"--kubeconfig={cluster.user('system:kube-proxy')}",
        "--proxy-mode=iptables",
        f"--cluster-cidr={PODS}",
        f"--hostname-override={NODE}",
        "--conntrack-max-per-core=0",
        "--conntrack-min=0",
        "--oom-score-adj=0",
    ]
    proxy = Daemon("kube-proxy", command, cluster.logs)
    proxy.ready(lambda: answers("http://127.0.0.1:10256/livez"))


def _start_names(cluster: Cluster) -> None:
    """DNS at the node's address; it keeps nothing, so a name is right at once."""
    corefile = cluster.folder / "Corefile"
    corefile.write_text(
        f".:53 {{\n"
        f"  bind {NODE_ADDRESS}\n"
        f"  errors\n"
        f"  ready {DNS_READY}\n"
        f"  kubernetes cluster.local in-addr.arpa {{\n"
        f"    kubeconfig {cluster.kubeconfig}\n"
        f"    ttl 0\n"
        f"  }}\n"
        f"}}\n"
    )
    command: list[str | Path] = [binary("coredns"), "-conf", corefile]
    dns = Daemon("coredns", command, cluster.logs)
    dns.ready(lambda: answers(f"http://{DNS_READY}/ready"))
