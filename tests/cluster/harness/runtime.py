"""Level 4, first half: containerd, the network of its pods, and the image that holds each of them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from harness.archive import write_image
from harness.binaries import PAUSE, binary
from harness.cluster import Cluster
from harness.network import PODS
from harness.processes import Daemon, system

SOCKET = "/run/containerd/containerd.sock"  # in the /run of the namespaces
PLUGINS = Path("/usr/lib/cni")
PLUGINS_PACKAGE = "containernetworking-plugins"
PAUSE_IMAGE = f"localhost/{PAUSE}:1"

CONFIGURATION = """\
version = 2
root = "{root}"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
# Where the capability to lower a score is missing, every pod would fail without this.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{networks}"
"""


def start_runtime(cluster: Cluster) -> None:
    """Start containerd with everything of its own below the cluster's folder; raises NotReadyError."""
    root, networks = cluster.folder / "containerd", cluster.folder / "networks"
    for folder in (root, networks):
        folder.mkdir()
    (networks / "pods.conflist").write_text(json.dumps(_pod_network(cluster.folder / "addresses")))
    configuration = cluster.folder / "containerd.toml"
    configuration.write_text(
        CONFIGURATION.format(root=root, socket=SOCKET, pause=PAUSE_IMAGE, plugins=PLUGINS, networks=networks)
    )
    command: list[str | Path] = [system("containerd", package="containerd"), "--config", configuration]
    Daemon("containerd", command, cluster.logs).ready(lambda: _ctr("version").returncode == 0)
    pause = cluster.folder / "pause.tar"
    write_image(pause, binary(PAUSE), tag=PAUSE_IMAGE)
    load(pause)


def load(archive: Path) -> None:
    """Make the images of this archive known to the cluster's pods."""
    done = _ctr("images", "import", str(archive))
    if done.returncode:
        raise RuntimeError(f"ctr images import {archive} ended with {done.returncode}: {done.stderr}")


def by_digest(name: str) -> str:
    """The name by digest of an image that was loaded under this one; pods can ask for it so."""
    whole = f"docker.io/library/{name}"
    listed = _ctr("images", "ls", f"name=={whole}").stdout.split()
    digest = next(word for word in listed if word.startswith("sha256:"))
    named = f"{whole.rpartition(':')[0]}@{digest}"
    done = _ctr("images", "tag", "--force", whole, named)
    if done.returncode:
        raise RuntimeError(f"ctr images tag {whole} {named} ended with {done.returncode}: {done.stderr}")
    return named


def _ctr(*words: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [
        system("ctr", package="containerd"),
        "--address",
        SOCKET,
        "--namespace",
        "k8s.io",
        *words,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _pod_network(addresses: Path) -> dict[str, object]:
    bridge = {
        "type": "bridge",
        "bridge": "pods0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(addresses),
            "ranges": [[{"subnet": PODS}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, ports]}
