"""What each level needs and starts.

2: etcd and the API server. 3: and the controllers, the scheduler and fake nodes. 4: and a node that runs pods.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from harness.binaries import GO_NEEDED, KUBERNETES, PAUSE, binary, buildable, found
from harness.cluster import Cluster
from harness.control_plane import start_api, start_controllers
from harness.errors import HarnessError, MissingError, NotReadyError
from harness.images import base
from harness.node import start_node
from harness.processes import there
from harness.runtime import PLUGINS, PLUGINS_PACKAGE, start_runtime
from harness.volumes import start_volumes

LEVELS = (2, 3, 4)
CONTROL_PLANE = ("etcd", "kube-apiserver", "kubectl")
PROGRAMS = {
    2: CONTROL_PLANE,
    3: (*CONTROL_PLANE, "kube-controller-manager", "kube-scheduler", "kwok"),
    4: (*KUBERNETES, PAUSE, "kwok", "coredns"),
}
# What clusters need of the operating system, and nodes besides: a program and the Debian package that brings it.
PROGRAMS_OF_ALL = {"ip": "iproute2"}
NODE_PROGRAMS = PROGRAMS_OF_ALL | {
    name: name for name in ("containerd", "runc", "iptables", "buildah", "debootstrap")
}


def required() -> bool:
    """Whether tests fail, and are not skipped, where this machine lacks something."""
    return os.environ.get("FLJOB_CLUSTER_REQUIRED") == "1"


def require(level: int) -> None:
    """Raise MissingError, in one sentence, if this machine cannot run a cluster of this level."""
    if os.geteuid() != 0:
        raise MissingError(
            "A cluster needs root, for namespaces of its own: run it as root or in a privileged container."
        )
    if not buildable() and not all(found(name) for name in PROGRAMS[level]):
        raise MissingError(GO_NEEDED)
    if absent := packages_missing(level):
        names = " ".join(absent)
        raise MissingError(f"Level {level} needs {names}: install them (Debian: apt-get install {names}).")


def packages_missing(level: int) -> list[str]:
    """The Debian packages that this machine lacks for a level, all of them at once."""
    wanted = NODE_PROGRAMS if level == 4 else PROGRAMS_OF_ALL
    absent = [package for name, package in wanted.items() if not there(name)]
    return [*absent, *([PLUGINS_PACKAGE] if level == 4 and not PLUGINS.is_dir() else [])]


def prepare(level: int) -> None:
    """Make all that a cluster of this level and its tests need; raises MissingError."""
    require(level)
    for name in PROGRAMS[level]:
        binary(name)
    if level == 4:
        base()


def start(level: int, folder: Path) -> Cluster:
    """A ready cluster of this level in the private namespaces of this process.

    Its daemons end with the first process of the namespaces. Raises NotReadyError, and then keeps the logs.
    """
    try:
        cluster = start_api(folder, level=level)
        if level >= 3:
            start_controllers(cluster)
        if level >= 4:
            start_runtime(cluster)
            start_node(cluster)
            start_volumes(cluster)
    except NotReadyError as error:
        kept = Path(tempfile.mkdtemp(prefix="fljob-logs-"))
        shutil.copytree(folder / "logs", kept, dirs_exist_ok=True)
        raise HarnessError(f"{error}\nAll logs are kept in {kept}.") from error
    return cluster
