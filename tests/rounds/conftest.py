"""Whole jobs on this machine: real scheduler, server and workers, real sockets, mutual TLS."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pytest

from fl_core.identity import Authority, Identity
from fl_core.plan import Plan
from fl_core.weights import digest
from job_generator.compiler import compile_job
from job_generator.program import sealed
from job_generator.spec import FLJob
from tests.rounds.forked import Forked, executed

UID = "job-1"
PATIENCE = 60

TOY = """
import os, signal, time
from pathlib import Path
import numpy as np
from fl_core.metrics import AUC, Measurement

class Toy:
    def __init__(self, site, config):
        self.site, self.config = site, config
        self.goal = np.arange(5, dtype="f4") + site.index
        self.trainings = self.measurements = 0

    def weights(self):
        return {"w": np.zeros(5, "f4")}

    def train(self, weights):
        mine = self.site.index
        self.trainings += 1
        if self.config.get("killed") == mine:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.config.get("raises") == mine:
            raise ValueError("no such column")
        while self.config.get("hangs") == mine:
            time.sleep(60)
        if self.config.get("nan") == mine:
            return {"w": weights["w"] + np.float32("nan")}, 1
        gate = Path(__file__).with_name(f"gate-{mine}")
        if self.config.get("gate") == self.trainings and gate.exists():
            gate.read_text()
        return {"w": weights["w"] + np.float32(0.3) * (self.goal - weights["w"])}, 10 + mine

    def examples(self):
        return 40

    def gradients(self, weights, places):
        return {"w": (weights["w"] - self.goal) * np.ones((len(places), 1), "f4")}

    def evaluate(self, weights):
        self.measurements += 1
        if "diverges" not in self.config:
            return {"loss": float(((weights["w"] - self.goal) ** 2).mean())}
        gone = np.float32("nan") if self.config["diverges"] == self.measurements else np.float32(1)
        scores = 1 / (1 + np.exp(-gone * weights["w"]))
        auc = Measurement(AUC(8), AUC(8).measure(scores, np.arange(5) > self.site.index))
        return {"loss": float(((gone * weights["w"] - self.goal) ** 2).mean()), "auc": auc, "seen": 1.0}

def task(config, site):
    return Toy(site, config)
"""

MOMENTUM = """
from dataclasses import dataclass
from fl_core.strategies import LocalWork
from fl_core.weights import add

@dataclass(frozen=True)
class Momentum:
    beta: float
    local = LocalWork()
    def weight(self, examples): return examples
    def step(self, model, mean, state):
        velocity = {name: self.beta * state.get(name, 0 * array) + array for name, array in mean.items()}
        return add(model, velocity), velocity
"""


def until(true: Callable[[], Any], *, what: str) -> Any:
    """Wait for something that another process does."""
    end = time.monotonic() + PATIENCE
    while not (found := true()):
        assert time.monotonic() < end, f"{what} did not happen within {PATIENCE} s"
        time.sleep(0.01)
    return found


@dataclass
class Run:
    """One job's folder, plan and processes."""

    folder: Path
    plan: Plan
    authority: Authority = field(default_factory=lambda: Authority(UID))
    processes: dict[str, subprocess.Popen[bytes] | Forked] = field(default_factory=dict)
    announced: dict[str, dict[str, str]] = field(default_factory=dict)
    gates: list[TextIO] = field(default_factory=list)

    @property
    def storage(self) -> Path:
        return self.folder / "storage"

    @property
    def program(self) -> Path:
        return self.folder / "program"

    def identity(self, role: str, number: int | None = None) -> Path:
        """A fresh certificate of this job, in a folder."""
        identity = Identity(UID, role, number)
        self.authority.issue(identity).write(self.folder / identity.name)
        return self.folder / identity.name

    def start(self, name: str, module: list[str], **options: str) -> str:
        """Start a process, wait until it announces itself, and give its address."""
        return self.hear(name, self.spawn(name, module, **options))

    def hear(self, name: str, reading: int) -> str:
        """Wait until a process announces itself, and give its address."""
        with os.fdopen(reading) as stream:
            self.announced[name] = json.loads(stream.readline() or "{}")
        return self.announced[name].get("address", "")

    def spawn(self, name: str, module: list[str], **options: str) -> int:
        """Start a process, and give the descriptor that it will announce itself on."""
        reading, writing = os.pipe()
        flags = [part for option, value in options.items() for part in (f"--{option}", value)]
        line = [*module, "--plan", str(self.folder / "plan.json"), *flags]
        log = self.folder / f"{name}.log"
        begin = executed if self.imports_anew(name) else Forked
        self.processes[name] = begin(line, announce=writing, log=log, path=str(self.folder))
        os.close(writing)
        return reading

    def imports_anew(self, name: str) -> bool:  # noqa: ARG002 - for runs that know
        """Whether a process is to find something changed in what it imports."""
        return (self.folder / "sitecustomize.py").exists()

    def scheduler(self, listen: str = "127.0.0.1:0") -> str:
        return self.start(
            "scheduler", ["fl_scheduler"], identity=str(self.identity("scheduler")), listen=listen
        )

    def server(self, listen: str = "127.0.0.1:0", **more: str) -> str:
        return self.start(
            "server",
            ["fl_server"],
            identity=str(self.identity("server")),
            scheduler=self.announced["scheduler"]["address"],
            storage=str(self.storage),
            listen=listen,
            **more,
        )

    def worker(self, *indices: int, **more: str) -> None:
        """Start these workers side by side, with these further options."""
        pipes = {}
        for index in indices:
            pipes[f"worker-{index}"] = self.spawn(
                f"worker-{index}",
                ["fl_worker", "train"],
                identity=str(self.identity("worker", index)),
                index=str(index),
                program=str(self.program),
                scheduler=self.announced["scheduler"]["address"],
                server=self.announced["server"]["address"],
                **more,
            )
        for name, reading in pipes.items():
            self.hear(name, reading)

    def begin(self, **server: str) -> None:
        """Start all processes, the server with these further options."""
        self.scheduler()
        self.server(**server)
        self.worker(*range(self.plan.workers))

    def finish(self) -> list[dict[str, Any]]:
        """Start all processes, wait for the server's end, and return the rounds' records."""
        self.begin()
        self.processes["server"].wait(PATIENCE)
        return self.rounds()

    def rounds(self) -> list[dict[str, Any]]:
        """The rounds that have been recorded."""
        record = self.storage / "metrics.jsonl"
        return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []

    def log(self, name: str) -> list[dict[str, Any]]:
        """A process's log."""
        lines = (self.folder / f"{name}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def said(self, name: str) -> str:
        """All that a process's log says."""
        return (self.folder / f"{name}.log").read_text()

    def scrape(self, name: str, path: str = "/metrics") -> str:
        """What a process serves over HTTP."""
        url = f"http://{self.announced[name]['metrics']}{path}"
        with urllib.request.urlopen(url, timeout=10) as page:
            return str(page.read().decode())

    def wait_held(self) -> None:
        """Wait until every worker stands at its gate, in the training that `gate` numbers."""
        self.gates = [path.open("w") for path in sorted(self.program.glob("gate-*"))]

    def release(self) -> None:
        """Open the gates for good."""
        for path in self.program.glob("gate-*"):
            path.unlink()
        for gate in self.gates:
            gate.close()

    def wait_reported(self, worker: str) -> None:
        """Wait for a round that this worker took part in."""
        until(
            lambda: any(worker in row["reporters"] for row in self.rounds()[-1:]),
            what=f"a round with {worker}",
        )

    def wait_said(self, name: str, word: str) -> None:
        """Wait until a process's log says this."""
        until(lambda: word in self.said(name), what=f"{word!r} in the log of {name}")

    def wait_recorded(self, count: int) -> None:
        until(lambda: len(self.rounds()) >= count, what=f"{count} rounds")

    def initial_model(self) -> str:
        """The digest of the model that round 1 starts from."""
        return digest({"w": np.zeros(5, "f4")})

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal; wait for the end if there is one."""
        self.processes[name].send_signal(number)
        if number == signal.SIGKILL:
            self.processes[name].wait(PATIENCE)

    def code(self, name: str) -> int:
        """Wait for a process's exit code."""
        return self.processes[name].wait(PATIENCE)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Build a run of the toy program: three workers, updates in the clear; its processes end with the test."""
    runs: list[Run] = []

    def build(
        *, spec: dict[str, Any] | None = None, selection: dict[str, Any] | None = None, **config: int
    ) -> Run:
        folder = tmp_path / f"run-{len(runs)}"
        (folder / "program").mkdir(parents=True)
        (folder / "program" / "toy.py").write_text(TOY)
        (folder / "momentum.py").write_text(MOMENTUM)
        for index in range(3):
            os.mkfifo(folder / "program" / f"gate-{index}")
        written = FLJob.model_validate(
            {
                "metadata": {"name": "toy"},
                "spec": {
                    "seed": 1,
                    "rounds": 4,
                    "program": {"entrypoint": "toy:task", "framework": "numpy", "config": config},
                    "selection": {
                        "minimum": 2,
                        "deadlineSeconds": 60,
                        "stallSeconds": 60,
                        **(selection or {}),
                    },
                    "workers": {"replicas": 3},
                    "secureAggregation": {"enabled": False},
                    **(spec or {}),
                },
            }
        )
        plan = compile_job(sealed(written, folder / "program", uid=UID))
        (folder / "plan.json").write_text(plan.to_json())
        runs.append(Run(folder, plan))
        return runs[-1]

    yield build
    for run in runs:
        for process in run.processes.values():
            process.kill()
            process.wait()
