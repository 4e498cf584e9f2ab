"""Running a command in a network, a process and a mount namespace of its own.

Every address is then the cluster's own, two clusters never meet, and the end of the first process is the end of every
daemon, pod and mount.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import network
from harness.folder import VARIABLE, temporary
from harness.processes import system

MAIN = Path(__file__).parents[1] / "__main__.py"
HIDDEN = (
    "/var/lib",
    "/var/log",
)  # where containerd, kubelet and network plug-ins write, whatever they are told
PATIENCE = 30.0  # seconds for the command to end by itself after an interrupt


def run(command: Sequence[str]) -> int:
    """The exit status of the command, run in namespaces of its own; nothing of them is left afterwards."""
    unshare, setpriv = system("unshare", package="util-linux"), system("setpriv", package="util-linux")
    private = [unshare, "--net", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child"]
    with temporary() as folder:
        first = [sys.executable, str(MAIN), "first", *command]
        # When this process is killed, unshare is, and with it the first process.
        with subprocess.Popen(
            [setpriv, "--pdeathsig", "KILL", *private, *first], env={**os.environ, VARIABLE: str(folder)}
        ) as process:
            (folder / "pid").write_text(str(process.pid))
            signal.signal(signal.SIGTERM, lambda *_: _kill_first(process.pid))
            try:
                return process.wait()
            except KeyboardInterrupt:
                return _interrupted(process)
            finally:
                _kill_first(process.pid)


def first(command: Sequence[str]) -> int:
    """Be the first process of the namespaces: set them up, run the command, reap what it leaves, end with it."""
    signal.signal(signal.SIGINT, lambda *_: None)  # the terminal sends it to the command, too
    network.set_up()
    _hide(Path(os.environ[VARIABLE]))
    process = subprocess.Popen(list(command))
    while True:
        pid, status = os.wait()
        if pid == process.pid:
            return os.waitstatus_to_exitcode(status)


def _hide(folder: Path) -> None:
    """What is written to the machine's own folders goes to this one, or to memory."""
    mount = system("mount", package="mount")
    subprocess.run([mount, "-t", "tmpfs", "tmpfs", "/run"], check=True)
    for place in HIDDEN:
        upper, work = (folder / "hidden" / kind / place.strip("/") for kind in ("upper", "work"))
        upper.mkdir(parents=True)
        work.mkdir(parents=True)
        layers = f"lowerdir={place},upperdir={upper},workdir={work}"
        subprocess.run([mount, "-t", "overlay", "overlay", "-o", layers, place], check=True)
    # The machine's own servers of names cannot be reached, which programs would notice only after many seconds.
    ours, theirs = folder / "hidden" / "resolv.conf", Path("/etc/resolv.conf").resolve()
    ours.write_text(f"nameserver {network.NODE_ADDRESS}\n")
    if not theirs.exists():  # a link into the /run that is hidden now
        theirs.parent.mkdir(parents=True, exist_ok=True)
        theirs.touch()
    subprocess.run([mount, "--bind", ours, theirs], check=True)


def _interrupted(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(PATIENCE)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        _kill_first(process.pid)
        return process.wait()


def _kill_first(unshare: int) -> None:
    """Kill the first process: the kernel then kills all the others before unshare hears of it."""
    try:
        children = Path(f"/proc/{unshare}/task/{unshare}/children").read_text()
    except FileNotFoundError:
        return
    for pid in children.split():
        os.kill(int(pid), signal.SIGKILL)
