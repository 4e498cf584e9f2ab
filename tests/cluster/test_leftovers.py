"""A cluster leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.folder import CGROUPS, temporary
from harness.waiting import until

pytestmark = pytest.mark.cluster

MAIN = Path(__file__).parent / "__main__.py"


@contextmanager
def running() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A cluster of level 2 that somebody plays with, and its folder; in a process group as of a terminal."""
    command = [sys.executable, str(MAIN), "up", "--level", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            lines = iter(process.stdout or ())
            enter = next(line for line in lines if line.rstrip().endswith("/enter"))
            yield process, Path(enter.split()[1]).parent
        finally:
            process.kill()


def named(folder: Path) -> list[str]:
    """The processes that were started with something of this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_text()
        except OSError:  # it ended meanwhile
            continue
        if folder.name in command:
            found.append(command)
    return found


@pytest.mark.usefixtures("cluster")
def test_ctrl_c_leaves_nothing() -> None:
    """After Ctrl-C no process, file or cgroup of a cluster is there."""
    with running() as (process, folder):
        assert any("kube-apiserver" in command for command in named(folder))
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 0
    assert named(folder) == []
    assert not folder.exists()
    # `walk` passes over what ends meanwhile: other clusters may run beside this one, and `glob` would fail at them.
    assert not [path for path, _, _ in os.walk(CGROUPS) if Path(path).name == folder.name]


@pytest.mark.usefixtures("cluster")
def test_a_killed_cluster_is_cleared_away_by_the_next() -> None:
    """SIGKILL ends every process of a cluster, and the next one removes its folder."""
    with running() as (process, folder):
        process.kill()
        assert until(lambda: not named(folder))
    with temporary():
        assert not folder.exists()
