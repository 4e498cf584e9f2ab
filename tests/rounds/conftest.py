"""A whole job on this machine: real scheduler, server and workers, real sockets, mutual TLS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fl_core.bundle import bundle, bundle_digest
from fl_core.extensions import Extension
from fl_core.identity import Authority, Identity
from fl_core.plan import Checkpoint, Job, Plan, Program, Selection, Shortfall

TOY = """
import os, signal
import numpy as np

class Toy:
    def __init__(self, site, config):
        self.site, self.config = site, config
        self.goal = np.arange(5, dtype="f4") + site.index

    def weights(self):
        return {"w": np.zeros(5, "f4")}

    def train(self, weights):
        if self.config.get("killed") == self.site.index:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.config.get("nan") == self.site.index:
            return {"w": weights["w"] + np.float32("nan")}, 1
        return {"w": weights["w"] + np.float32(0.3) * (self.goal - weights["w"])}, 10 + self.site.index

    def evaluate(self, weights):
        return {"loss": float(((weights["w"] - self.goal) ** 2).mean())}

def task(config, site):
    return Toy(site, config)
"""


@dataclass
class Run:
    """One job's folder, plan and processes."""

    folder: Path
    plan: Plan
    authority: Authority = field(default_factory=lambda: Authority("job-1"))
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(
        self, module: list[str], role: str, number: int | None = None, **options: str
    ) -> dict[str, Any]:
        """Start a process and read what it announces."""
        identity = Identity("job-1", role, number)
        self.authority.issue(identity).write(self.folder / identity.name)
        reading, writing = os.pipe()
        flags = [part for name, value in options.items() for part in (f"--{name}", value)]
        common = ["--plan", str(self.folder / "plan.json"), "--identity", str(self.folder / identity.name)]
        with (self.folder / f"{identity.name}.log").open("wb") as log:
            self.processes[identity.name] = subprocess.Popen(
                [sys.executable, "-m", *module, *common, "--announce-fd", str(writing), *flags],
                pass_fds=[writing],
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        os.close(writing)
        with os.fdopen(reading) as stream:
            return dict(json.loads(stream.readline()))

    def finish(self) -> list[dict[str, Any]]:
        """Start all processes, wait for the server's end, and return the rounds' records."""
        scheduler = self.start(["fl_scheduler"], "scheduler")["address"]
        storage = self.folder / "storage"
        server = self.start(["fl_server"], "server", scheduler=scheduler, storage=str(storage))["address"]
        for index in range(self.plan.workers):
            addresses = {"scheduler": scheduler, "server": server}
            self.start(
                ["fl_worker", "train"],
                "worker",
                index,
                index=str(index),
                program=str(self.folder / "program"),
                **addresses,
            )
        self.processes["server"].wait(60)
        return [json.loads(line) for line in (storage / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Build a run of the toy program with three workers; its processes end with the test."""
    runs: list[Run] = []

    def build(*, minimum: int = 2, **config: int) -> Run:
        folder = tmp_path / f"run-{len(runs)}"
        (folder / "program").mkdir(parents=True)
        (folder / "program" / "toy.py").write_text(TOY)
        digest = bundle_digest(bundle(folder / "program", "toy"))
        plan = Plan(
            job=Job(name="toy", namespace="default", uid="job-1"),
            seed=1,
            rounds=4,
            target=None,
            program=Program(entrypoint="toy:task", framework="numpy", sha256=digest, config=dict(config)),
            strategy=Extension(name="fedavg"),
            aggregation=Extension(name="mean"),
            compression=(),
            selection=Selection(
                policy=Extension(name="uniform"),
                per_round=3,
                extra=0,
                minimum=minimum,
                join_seconds=30,
                stall_seconds=30,
                deadline_seconds=30,
                on_shortfall=Shortfall(action="Fail", attempts=1),
            ),
            evaluation_every=1,
            checkpoint=Checkpoint(every_rounds=1, keep=2),
            workers=3,
            ready_seconds=60,
        )
        (folder / "plan.json").write_text(plan.to_json())
        runs.append(Run(folder, plan))
        return runs[-1]

    yield build
    for run in runs:
        for process in run.processes.values():
            process.kill()
            process.wait()
