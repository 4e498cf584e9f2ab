"""What each level needs and starts.

2: etcd and the API server. 3: and the controllers, the scheduler and fake nodes. 4: and a node that runs pods.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from harness.binaries import GO_NEEDED, KUBERNETES, buildable, found
from harness.cluster import Cluster
from harness.control_plane import start_api, start_controllers
from harness.errors import HarnessError, MissingError, NotReadyError

LEVELS = (2, 3, 4)
PROGRAMS = {
    2: ("etcd", "kube-apiserver", "kubectl"),
    3: (*KUBERNETES, "kwok"),
    4: (*KUBERNETES, "kwok", "coredns"),
}


def require(level: int) -> None:
    """Raise MissingError, in one sentence, if this machine cannot run a cluster of this level."""
    if not buildable() and not all(found(name) for name in PROGRAMS[level]):
        raise MissingError(GO_NEEDED)


def start(level: int, folder: Path) -> Cluster:
    """A ready cluster of this level in the private namespaces of this process.

    Its daemons end with the first process of the namespaces. Raises NotReadyError, and then keeps the logs.
    """
    try:
        cluster = start_api(folder, level=level)
        if level >= 3:
            start_controllers(cluster)
    except NotReadyError as error:
        kept = Path(tempfile.mkdtemp(prefix="fljob-logs-"))
        shutil.copytree(folder / "logs", kept, dirs_exist_ok=True)
        raise HarnessError(f"{error}\nAll logs are kept in {kept}.") from error
    return cluster
