"""Jobs with secure aggregation as real processes on strings, and the same sums in the clear."""

from __future__ import annotations

import base64
import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fl_core.metrics import Measurements, total
from fl_core.plan import Plan
from fl_core.secagg import job as secagg
from fl_core.secagg.masks import Vector
from fl_core.secagg.ranges import Exponents
from fl_core.secagg.ring import public_dither
from fl_core.secagg.summands import RangeSum, Schema, Summand, UpdateSum
from fl_core.strategies.fedavg import FedAvg
from fl_core.weights import Manifest, Weights, digest
from fl_worker.task import Site
from fl_worker.work import Finished, Learner
from job_generator.compiler import compile_job
from job_generator.program import sealed
from job_generator.spec import FLJob
from tests.rounds.conftest import PATIENCE, UID, Run, until

NUMBERS = itertools.count()

PROGRAM = '''
"""Each site draws the model to a point of its own; how many examples it has is nobody's business."""

import numpy as np

from fl_core.metrics import Accuracy, Measurement
from fl_worker.backends.numpy import NumpyBackend

EXAMPLES = (500_009_711, 500_017_327, 500_030_089, 500_041_189, 500_050_477)

class Hospital:
    def __init__(self, site, config):
        self.examples = EXAMPLES[site.index % len(EXAMPLES)]
        self.goal = np.sin(np.arange(config["size"], dtype="f4") + site.index)

    def weights(self):
        return {"w": np.zeros(self.goal.size, "f4"), "b": np.ones(3, "f4")}

    def train(self, weights):
        moved = {"w": weights["w"] + np.float32(0.3) * (self.goal - weights["w"]), "b": weights["b"] * np.float32(0.99)}
        return moved, self.examples, {"fit": self.loss(weights)}

    def evaluate(self, weights):
        right = np.abs(weights["w"] - self.goal) < 0.8
        return {
            "loss": self.loss(weights),
            "examples": 1_000 + self.examples % 1_000,
            "accuracy": Measurement(Accuracy(), np.array([right.sum(), right.size], "f8")),
        }

    def loss(self, weights):
        return float(((weights["w"] - self.goal) ** 2).mean())

def task(config, site):
    if config.get("moves"):  # as a backend does that tells of each batch
        NumpyBackend.moves = True
    return Hospital(site, config)
'''


@dataclass
class SecureRun(Run):
    """One job's folder, plan and processes on strings."""

    tied: bool = True

    def spawn(self, name: str, module: list[str], **options: str) -> int:
        """Start a process on its strings."""
        folder = self.strings(name)
        folder.mkdir(parents=True, exist_ok=True)
        return super().spawn(
            name, ["tests.rounds.puppet", str(folder), *module] if self.tied else module, **options
        )

    def imports_anew(self, name: str) -> bool:
        """Whoever writes down its secrets changes where they come from, before anything else knows it."""
        return super().imports_anew(name) or (self.strings(name) / "record").exists()

    def strings(self, name: str) -> Path:
        """Where a process reads what it is to do; not a part of the run's own folder."""
        return self.folder.parent / f"{self.folder.name}-strings" / name

    def string(self, name: str, **points: str) -> None:
        """Say what a process is to do at these points; a double underscore stands for a dot."""
        for point, word in points.items():
            self.at(name, point.replace("__", "."), word)

    def at(self, name: str, point: str, word: str) -> None:
        """Say what a process is to do at a point."""
        folder = self.strings(name)
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{point}.partial"
        partial.write_text(word)
        partial.rename(folder / point)

    def hold(self, point: str, *workers: int) -> None:
        """These workers are to wait at this point."""
        for worker in workers:
            self.at(f"worker-{worker}", point, "wait")

    def let_go(self, point: str, *workers: int) -> None:
        """They need not wait there any longer."""
        for worker in workers:
            (self.strings(f"worker-{worker}") / f"{point}.go").touch()

    def wait_at(self, name: str, point: str) -> None:
        """Wait until a process has come to a point where it had something to do."""
        until((self.strings(name) / f"{point}.was").exists, what=f"{point} of {name}")

    def recorded(self, name: str) -> list[dict[str, str]]:
        """What a process wrote down about itself."""
        path = self.strings(name) / "recorded.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def messages(self, name: str, method: str) -> list[bytes]:
        """The messages of a method that came to a process."""
        return [
            base64.b64decode(row["message"]) for row in self.recorded(name) if row.get("method") == method
        ]

    def sessions(self) -> list[dict[str, Any]]:
        """What the server noted of its sessions."""
        path = self.storage / "sessions.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def come_back(self, *indices: int) -> None:
        """Start workers again, and wait until they have enrolled."""
        before = {index: self.said(f"worker-{index}").count('"enrolled"') for index in indices}
        self.worker(*indices)
        for index, count in before.items():
            until(
                lambda index=index, count=count: self.said(f"worker-{index}").count('"enrolled"') > count,
                what=f"worker-{index}'s return",
            )

    def serve_again(self) -> None:
        """Wait for the server's death and start another at its address."""
        assert self.code("server") == -signal.SIGKILL
        self.server(listen=self.announced["server"]["address"])

    def ends(self) -> int:
        """The server's exit code."""
        return self.code("server")


@contextmanager
def runs(folder: Path) -> Iterator[Callable[..., SecureRun]]:
    """Builds runs of four workers, three of whom open a sum; their processes end with the block."""
    made: list[SecureRun] = []

    def build(
        *, selection: dict[str, Any] | None = None, secure: Any = None, size: int = 8, **spec: Any
    ) -> SecureRun:
        home, tied = folder / f"run-{len(made)}", spec.pop("tied", True)
        module = f"hospital_{next(NUMBERS)}"
        (home / "program").mkdir(parents=True)
        (home / "program" / f"{module}.py").write_text(PROGRAM)
        plan = plan_of(
            home / "program" / module, selection=selection or {}, secure=secure, size=size, spec=spec
        )
        (home / "plan.json").write_text(plan.to_json())
        run = SecureRun(home, plan, tied=tied)
        made.append(run)
        return run

    try:
        yield build
    finally:
        for run in made:
            for process in run.processes.values():
                process.kill()
                process.wait()


def plan_of(
    program: Path, *, selection: dict[str, Any], secure: Any, size: int, spec: dict[str, Any]
) -> Plan:
    """The plan of a job of three rounds and four workers."""
    chosen = {"deadlineSeconds": 60, "stallSeconds": 60, "joinSeconds": 30, "onShortfall": RETRY, **selection}
    written = {
        "seed": 1,
        "rounds": 3,
        "program": {"entrypoint": f"{program.name}:task", "framework": "numpy", "config": {"size": size}},
        "selection": chosen,
        "secureAggregation": {"maxExamples": 2**30} if secure is None else secure,
        "workers": {"replicas": 4},
        **spec,
    }
    job = FLJob.model_validate({"metadata": {"name": "hospital"}, "spec": written})
    return compile_job(sealed(job, program.parent, uid=UID))


RETRY = {"action": "Retry", "attempts": 5}


@dataclass
class Clear:
    """The rounds of a job with everybody's secrets in one place: what the secure sums must come to."""

    run: SecureRun
    exponents: Exponents = ()
    used: Exponents = ()
    round: int = 0
    learners: dict[int, Learner] = field(default_factory=dict)
    weights: Weights = field(default_factory=dict)

    def __post_init__(self) -> None:
        plan = self.run.plan
        for index in range(plan.workers):
            site = Site(f"worker-{index}", index, plan.workers, seed=plan.seed)
            self.learners[index] = Learner.load(plan, folder=self.run.program, site=site)
        self.weights = self.learners[0].initial()

    def trained(self, workers: Iterable[int], number: int) -> dict[int, Finished]:
        """What these workers make of the model."""
        return {
            index: self.learners[index].train(self.weights, round=number, states=(), moved=lambda: None)
            for index in workers
        }

    def step(self, workers: Sequence[int], *, ranged: Sequence[int] = ()) -> str:
        """A round that sums these workers' updates; `ranged` told their ranges, if others. Gives the model's digest."""
        self.round += 1
        finished = self.trained({*workers, *ranged}, self.round)
        manifest = Manifest.of(finished[workers[0]].update)
        counted = bool(self.exponents)
        if not counted:
            ranges = RangeSum(manifest)
            self.exponents = ranges.decode(
                summed(ranges, [ranges.encode(finished[one].update) for one in ranged or workers])
            )
        schema = Schema.of(finished[workers[0]].metrics)
        updates = UpdateSum(secagg.ring_of(self.run.plan), manifest, self.exponents, schema, counted=counted)
        found = updates.decode(
            summed(updates, [self._encoded(updates, one, finished[one]) for one in workers]),
            members=len(workers),
        )
        self.used, self.exponents = self.exponents, found.exponents
        self.weights, _ = FedAvg().step(self.weights, found.mean(), {})
        return digest(self.weights)

    def skip(self) -> None:
        """A round without a sum."""
        self.round += 1

    def measured(self, workers: Iterable[int]) -> Measurements:
        """What these workers measure of the model together."""
        return total(
            {
                f"worker-{index}": self.learners[index].evaluate(self.weights, moved=lambda: None).metrics
                for index in workers
            }
        )

    def _encoded(self, updates: UpdateSum, index: int, finished: Finished) -> Vector:
        return updates.encode(
            finished.update,
            weight=finished.examples,
            examples=finished.examples,
            metrics=finished.metrics,
            dither=public_dither(self.run.plan.seed, round=self.round, worker=index),
        )


def summed(summand: Summand, vectors: Iterable[Vector]) -> Vector:
    """The plain sum."""
    found = Vector.zeros(summand.layout)
    for vector in vectors:
        found.add(vector)
    return found


def numbers(workers: Iterable[str]) -> list[int]:
    """The numbers in workers' names."""
    return [int(worker.removeprefix("worker-")) for worker in workers]


def in_the_clear(run: SecureRun) -> list[str]:
    """The models that a run's record should hold, by whom it says is in each sum."""
    clear, models = Clear(run), []
    for row in run.rounds():
        assert row["round"] == clear.round + 1
        if row["result"] == "Skipped":
            clear.skip()
        else:
            models.append(clear.step(numbers(row["reporters"])))
    return models


def models(run: SecureRun) -> list[str]:
    """The models that a run's record holds."""
    return [row["model"] for row in run.rounds() if row["result"] == "Committed"]


def within(seconds: float) -> float:
    """The moment in so many seconds."""
    return time.monotonic() + min(seconds, PATIENCE)


def resume(process: Any) -> None:
    """Let a stopped process go on."""
    os.kill(process.pid, signal.SIGCONT)
