"""The folder of one running cluster, and what else is its own: its names in the kernel, its cgroups."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.binaries import cache, locked

PREFIX = "fljob-cluster-"
CGROUPS = Path("/sys/fs/cgroup")
VARIABLE = "FLJOB_CLUSTER_FOLDER"  # set inside the namespaces of a cluster


@contextmanager
def temporary() -> Iterator[Path]:
    """A folder that is gone afterwards; what a killed predecessor left goes first."""
    with locked(cache() / "clusters"):  # between its making and its own lock a folder looks unused
        place = Path(tempfile.gettempdir())
        for left in place.glob(f"{PREFIX}*"):
            if _unused(left):
                remove(left)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        lock = (folder / "lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with lock:
            yield folder
    finally:
        remove(folder)


def inside() -> Path | None:
    """The folder of the cluster in whose namespaces this process runs."""
    name = os.environ.get(VARIABLE)
    return Path(name) if name else None


def remove(folder: Path) -> None:
    """Remove the folder and the cgroups that bear its name."""
    # `walk` passes over the cgroups that other clusters end meanwhile, at which `glob` would fail.
    for cgroup, _, _ in os.walk(CGROUPS, topdown=False):
        if folder.name in Path(cgroup).parts:
            with suppress(OSError):  # a killed process may take a moment: the next cluster removes it
                Path(cgroup).rmdir()
    shutil.rmtree(folder, ignore_errors=True)


def _unused(folder: Path) -> bool:
    """Whether the process that made the folder is gone."""
    try:
        with (folder / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
    return True
