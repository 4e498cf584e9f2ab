"""Faults of a job's pods at exactly the steps that their processes tell.

Python starts each process with a module of this test's, from a ConfigMap that a template of the job mounts: it dials
the test and hands the socket over as `--chaos-fd`. Whoever tells a step waits for the answer, and the processes of the
node are processes of this machine, so they can be killed and stopped from here, and their network can be cut.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fl_core.steps import STARTED
from harness.network import NODE_ADDRESS
from harness.processes import system

PORT: Final = 27_700
PATIENCE_SECONDS: Final = 60.0
FOLDER: Final = "/steps"
HOOK: Final = f"""\
import json
import os
import socket
import sys

if sys.argv and os.path.basename(sys.argv[0]) in ("fl-server", "fl-scheduler", "fl-worker"):
    end = socket.create_connection(("{NODE_ADDRESS}", {PORT}), timeout=10)
    end.settimeout(None)
    role = os.path.basename(sys.argv[0])[3:]
    name = f"worker-{{os.environ['JOB_COMPLETION_INDEX']}}" if role == "worker" else role
    end.sendall(json.dumps({{"name": name, "host": os.uname().nodename}}).encode() + b"\\n")
    sys.argv += ["--chaos-fd", str(end.detach())]
"""
CONFIG_MAP: Final = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "steps"},
    "data": {"sitecustomize.py": HOOK},
}
TEMPLATE: Final = {
    "spec": {
        "containers": [
            {
                "name": "fl",
                "env": [{"name": "PYTHONPATH", "value": FOLDER}],
                "volumeMounts": [{"name": "steps", "mountPath": FOLDER, "readOnly": True}],
            }
        ],
        "volumes": [{"name": "steps", "configMap": {"name": "steps"}}],
    }
}
"""Of each role's pods."""
WORKERS_STEPS: Final = frozenset({"send", "train", "upload", "unmask", "evaluate"})

Map = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to whom when this step of this round is reached; a stop or a cut lasts so many seconds."""

    fault: str
    who: str
    round: int
    step: str
    seconds: float = 0.0

    def meets(self, name: str, step: str, number: int) -> bool:
        """Whether this process's coming to this step is the moment: a worker waits for its own, others for any."""
        mine = name == self.who or step not in WORKERS_STEPS or not self.who.startswith("worker")
        return mine and (step, number) == (self.step, self.round)


@dataclass(slots=True)
class Deed:
    """A fault that was done, and the seconds from it to the server's next step; None where it had no further one."""

    fault: Fault
    at: float
    back_after: float | None = None


@dataclass(slots=True)
class Steps:
    """Who listens to the processes of one job, and does its faults."""

    faults: list[Fault]
    operator: str
    """The host name of the operator's pod."""
    deeds: list[Deed] = field(default_factory=list)
    _hosts: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _lasting: list[threading.Timer] = field(default_factory=list)

    def listen(self, end: socket.socket) -> None:
        """Answer one process until it is gone."""
        with suppress(OSError), end, end.makefile("rwb") as stream:
            told = json.loads(stream.readline() or b"{}")
            if not told:
                return
            for line in iter(stream.readline, b""):
                step = json.loads(line)
                with self._lock:
                    self._told(told, step["step"], step["round"])
                stream.write(b"{}\n")
                stream.flush()

    def end(self) -> None:
        """Wait until everything is undone."""
        for timer in self._lasting:
            timer.join()

    def _told(self, process: Map, step: str, number: int) -> None:
        name = process["name"]
        if step == STARTED:
            self._hosts[name] = process["host"]
            return
        if name == "server":
            for deed in [one for one in self.deeds if one.back_after is None]:
                deed.back_after = time.monotonic() - deed.at
        for fault in [one for one in self.faults if one.meets(name, step, number)]:
            self.faults.remove(fault)
            self.end()
            self._do(fault)

    def _do(self, fault: Fault) -> None:
        """Do a fault to a process that runs; whoever told the step waits until it does."""
        host = self.operator if fault.who == "operator" else self._hosts[fault.who]
        pid, deed = awaited(host, f"fl-{fault.who.partition('-')[0]}"), Deed(fault, time.monotonic())
        if fault.fault == "cut":
            self._later(fault.seconds, cut(pid))
        elif fault.fault == "stop":
            os.kill(pid, signal.SIGSTOP)
            self._later(fault.seconds, lambda: resume(pid))
        else:
            os.kill(pid, signal.SIGKILL)
        self.deeds.append(deed)

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, act)
        timer.daemon = True
        self._lasting.append(timer)
        timer.start()


@contextmanager
def listening(faults: Sequence[Fault], *, operator: str) -> Iterator[Steps]:
    """Listen to the processes of a job with `TEMPLATE`, whose namespace has `CONFIG_MAP`."""
    steps = Steps(list(faults), operator)
    with socket.create_server(("0.0.0.0", PORT), backlog=64) as door:  # noqa: S104 - a network of the cluster's own
        threading.Thread(target=_accept, args=(door, steps), daemon=True).start()
        try:
            yield steps
        finally:
            steps.end()
            door.shutdown(socket.SHUT_RDWR)


def _accept(door: socket.socket, steps: Steps) -> None:
    with suppress(OSError):  # the door is closed
        while True:
            threading.Thread(target=steps.listen, args=(door.accept()[0],), daemon=True).start()


def pids_of(command: str, host: str = "") -> list[int]:
    """The processes of this machine whose command lines hold this, in the pod with this host name if one is given."""
    host_name, found = f"HOSTNAME={host}".encode(), list[int]()
    for place in Path("/proc").iterdir():
        with suppress(OSError):
            if not place.name.isdecimal() or command.encode() not in (place / "cmdline").read_bytes():
                continue
            if not host or host_name in (place / "environ").read_bytes().split(b"\0"):
                found.append(int(place.name))
    return sorted(found)


def pid_of(host: str, command: str) -> int:
    """The process that runs the command in the pod with this host name; the oldest of several."""
    if not (found := pids_of(command, host)):
        raise LookupError(f"no {command} runs in the pod {host}")
    return found[0]


def awaited(host: str, command: str) -> int:
    """The same, waited for where it is just starting again."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return pid_of(host, command)
        except LookupError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def resume(pid: int) -> None:
    """Let a process go on, if it is there."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def cut(pid: int) -> Callable[[], None]:
    """Lose every packet of this process's pod but those of its steps, without a word to the other end; returns the end
    of it, which works though the process is gone.
    """
    network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    enter = [system("nsenter", package="util-linux"), f"--net=/proc/self/fd/{network}"]
    tables = [system("iptables", package="iptables"), "-w"]
    rules = [
        rule
        for chain, side in (("INPUT", "--sport"), ("OUTPUT", "--dport"))
        for rule in ([chain, "-j", "DROP"], [chain, "-p", "tcp", side, str(PORT), "-j", "ACCEPT"])
    ]

    def each(act: str) -> None:
        for rule in rules:
            line = [*enter, *tables, act, *rule]
            subprocess.run(line, check=True, capture_output=True, pass_fds=[network])

    def undo() -> None:
        each("-D")
        os.close(network)

    each("-I")
    return undo
