"""The private network of a cluster: one address for its node, reached from nowhere else."""

from __future__ import annotations

import subprocess
from pathlib import Path

from harness.processes import system

NODE_ADDRESS = "10.250.0.1"
SERVICES = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
PODS = "10.244.0.0/24"
DEVICE = "node0"
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


def set_up() -> None:
    """Give the namespace its loopback, the node's address and a route."""
    # A bridge, as not every kernel has dummy devices, and kubelet refuses the loopback's address.
    for words in (
        "link set lo up",
        f"link add {DEVICE} type bridge",
        f"addr add {NODE_ADDRESS}/32 dev {DEVICE}",
        f"link set {DEVICE} up",
        f"route add default dev {DEVICE}",
    ):
        subprocess.run([system("ip", package="iproute2"), *words.split()], check=True)
    FORWARDING.write_text("1")
