"""Faults of a job's pods at exactly the steps that their processes tell.

Python starts each process with a module of this test's, from a ConfigMap that a template of the job mounts: it dials
the test and hands the socket over as `--chaos-fd`. Whoever tells a step waits for the answer, and the processes of the
node are processes of this machine, so they can be killed and stopped from here, and their network can be cut.

With `POINTS` they also tell the points of `tests/rounds/puppet.py`, such as each step of a secure sum.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fl_core.steps import STARTED
from harness.network import NODE_ADDRESS
from harness.processes import system

Map = dict[str, Any]
ROOT: Final = Path(__file__).parents[2]
PORT: Final = 27_700
PATIENCE_SECONDS: Final = 60.0
NOBODY: Final = ""
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
ENROLLED: Final = "enrolled"
POINTS_HOOK: Final = f"""\
{HOOK}
    import pathlib
    import puppet
    from fl_core.steps import reached

    class Told(puppet.Strings):
        def visit(self, point):
            step, _, number = point.rpartition(".")
            return reached(step, int(number))

    strings = Told(pathlib.Path("{FOLDER}"))
    if role == "server":
        puppet.on_server(strings)
    elif role == "worker":
        puppet.on_worker(strings)
        from fl_worker.session import Session
        puppet.before(Session, "_beat", lambda *_: reached("{ENROLLED}"))
"""


def config_map(**files: str) -> Map:
    """The ConfigMap that `TEMPLATE` mounts."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "steps"}, "data": files}


CONFIG_MAP: Final = config_map(**{"sitecustomize.py": HOOK})
POINTS: Final = config_map(
    **{
        "sitecustomize.py": POINTS_HOOK,
        "puppet.py": (ROOT / "tests" / "rounds" / "puppet.py").read_text(encoding="utf-8"),
    }
)
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


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to whom when this step of this round is reached: kill, stop, cut, lose or corrupt.

    A stop or a cut lasts so many seconds, and who is lost comes back after so many. Where the return of a worker is
    awaited, the others train in the next round when it has enrolled again.
    """

    fault: str
    who: str
    round: int
    step: str
    seconds: float = 0.0
    awaited: bool = False

    def meets(self, name: str, step: str, number: int) -> bool:
        """Whether this process's coming to this step is the moment: what workers tell, each worker tells for itself."""
        mine = name == self.who or not (name.startswith("worker") and self.who.startswith("worker"))
        return mine and (step, number) == (self.step, self.round)


@dataclass(slots=True)
class Deed:
    """A fault that was done, and the seconds from it to the server's next step; None where it had no further one."""

    fault: Fault
    at: float
    back_after: float | None = None


@dataclass(frozen=True, slots=True)
class Return:
    """The others wait for this worker before they train in this round."""

    who: str
    round: int
    there: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True)
class Steps:
    """Who listens to the processes of one job, and does its faults."""

    faults: list[Fault]
    operator: str
    """The host name of the operator's pod."""
    deeds: list[Deed] = field(default_factory=list)
    hosts: dict[str, str] = field(default_factory=dict)
    """The host names of the job's pods, by their processes."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _lasting: list[threading.Timer] = field(default_factory=list)
    _returns: list[Return] = field(default_factory=list)
    _lost_until: dict[str, float] = field(default_factory=dict)

    def listen(self, end: socket.socket) -> None:
        """Answer one process until it is gone."""
        with suppress(OSError), end, end.makefile("rwb") as stream:
            told = json.loads(stream.readline() or b"{}")
            if not told:
                return
            for line in iter(stream.readline, b""):
                step = json.loads(line)
                with self._lock:
                    answer = self._told(told, step["step"], step["round"])
                self.hold(told, step["step"], step["round"])
                stream.write(json.dumps(answer).encode() + b"\n")
                stream.flush()

    def hold(self, process: Map, step: str, number: int) -> None:
        """Have a process wait whose turn it is not yet."""
        name = process["name"]
        if step == STARTED:
            time.sleep(max(0.0, self._lost_until.pop(name, 0.0) - time.monotonic()))
        if step == "train":
            for one in [one for one in self._returns if one.round == number and one.who != name]:
                one.there.wait(PATIENCE_SECONDS)

    def gate(self, number: int) -> threading.Event:
        """What the workers wait for before they train in this round."""
        found = next((one for one in self._returns if (one.who, one.round) == (NOBODY, number)), None)
        if found is None:
            self._returns.append(found := Return(NOBODY, number))
        return found.there

    def end(self) -> None:
        """Wait until everything is undone."""
        for timer in self._lasting:
            timer.join()

    def _told(self, process: Map, step: str, number: int) -> Map:
        """Do what is to be done at a step; the answer says how to spoil the work there."""
        name = process["name"]
        if step == STARTED:
            self.hosts[name] = process["host"]
            return {}
        if step == ENROLLED:
            for one in [one for one in self._returns if one.who == name]:
                one.there.set()
        if name == "server":
            for deed in [one for one in self.deeds if one.back_after is None]:
                deed.back_after = time.monotonic() - deed.at
        answer: Map = {}
        for fault in [one for one in self.faults if one.meets(name, step, number)]:
            self.faults.remove(fault)
            self.end()
            answer |= self._do(fault)
        return answer

    def _do(self, fault: Fault) -> Map:
        """Do a fault to a process that runs; whoever told the step waits until it does."""
        host = self.operator if fault.who == "operator" else self.hosts[fault.who]
        pid, deed = awaited(host, f"fl-{fault.who.partition('-')[0]}"), Deed(fault, time.monotonic())
        self.deeds.append(deed)
        match fault.fault:
            case "corrupt":
                return {"spoil": "corrupt"}
            case "cut":
                self._later(fault.seconds, cut(pid))
            case "stop":
                os.kill(pid, signal.SIGSTOP)
                self._later(fault.seconds, lambda: resume(pid))
            case "kill" | "lose":
                if fault.awaited:
                    self._returns.append(Return(fault.who, fault.round + 1))
                if fault.fault == "lose":
                    self._lost_until[fault.who] = deed.at + fault.seconds
                os.kill(pid, signal.SIGKILL)
        return {}

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, act)
        timer.daemon = True
        self._lasting.append(timer)
        timer.start()


@contextmanager
def listening(steps: Steps) -> Iterator[None]:
    """Listen to the processes of jobs with `TEMPLATE`, whose namespace has `CONFIG_MAP`."""
    with socket.create_server(("0.0.0.0", PORT), backlog=256) as door:  # noqa: S104 - a network of the cluster's own
        threading.Thread(target=_accept, args=(door, steps), daemon=True).start()
        try:
            yield
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
