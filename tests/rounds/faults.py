"""Jobs under faults, as users run them: `fl-submit run --chaos`, with what each round should have come to."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fl_core.plan import Plan
from fl_core.strategies.fedavg import FedAvg
from fl_core.updates import ExactSum
from fl_core.weights import Manifest, digest, pack
from tests.rounds.secure import PROGRAM, Clear, in_the_clear, numbers

NUMBERS = itertools.count()
PATIENCE = 280

SELECTION = {
    "minimum": 3,
    "deadlineSeconds": 20,
    "stallSeconds": 20,
    "joinSeconds": 20,
    "onShortfall": {"action": "Retry", "attempts": 10},
}


@dataclass(frozen=True)
class Tried:
    """A run that is over: its folder, how it ended, what it said."""

    folder: Path
    program: Path
    code: int
    said: str

    @property
    def plan(self) -> Plan:
        """What its processes read."""
        return Plan.read(self.folder / "plan.json")

    @property
    def report(self) -> dict[str, Any]:
        """What was done to it, and what it did."""
        return dict(json.loads((self.folder / "chaos.json").read_text()))

    def rounds(self) -> list[dict[str, Any]]:
        """Its record."""
        lines = (self.folder / "storage" / "metrics.jsonl").read_text().splitlines()
        return [row for row in map(json.loads, lines) if "round" in row]

    def should_be(self) -> list[str]:
        """The models that its record should hold, made anew here by whom it says is in each round."""
        return in_the_clear(self) if self.plan.secure_aggregation else list(added_up(self))  # type: ignore[arg-type]

    def check(self) -> None:
        """It completed, no round is lost, skipped or counted twice, and each model is that of its recorded workers."""
        assert self.code == 0, self.said
        rows = self.rounds()
        assert [row["round"] for row in rows] == list(range(1, self.plan.rounds + 1)), self.said
        assert {row["result"] for row in rows} == {"Committed"}, self.said
        assert [row["model"] for row in rows] == self.should_be(), self.said
        job = self.report["job"]
        assert (job["rounds_lost"], job["rounds_skipped"], job["rounds_counted_twice"]) == (0, 0, 0)


def added_up(run: Tried) -> Iterator[str]:
    """The models of a job in the clear."""
    clear = Clear(run)  # type: ignore[arg-type] # what it reads of a run is there
    for row in run.rounds():
        finished = clear.trained(numbers(row["reporters"]), row["round"])
        total = ExactSum(Manifest.of(clear.weights), capacity=len(finished))
        for one in finished.values():
            total.add([(0, memoryview(pack(one.update)))], weight=one.examples)
        clear.weights, _ = FedAvg().step(clear.weights, total.mean(), {})
        yield digest(clear.weights)


def tried(
    home: Path,
    faults: Sequence[dict[str, Any]],
    *,
    secure: bool,
    rounds: int,
    workers: int = 4,
    seed: int = 1,
    selection: dict[str, Any] | None = None,
    **config: int,
) -> Tried:
    """Run the hospitals' job of so many rounds in a new folder below `home`, with these faults."""
    line = prepared(
        home, faults, secure=secure, rounds=rounds, workers=workers, seed=seed, selection=selection, **config
    )
    done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE, check=False)
    folder = Path(line[line.index("--folder") + 1])
    return Tried(folder, folder.parent / "program", done.returncode, done.stdout + done.stderr)


def prepared(
    home: Path,
    faults: Sequence[dict[str, Any]],
    *,
    secure: bool,
    rounds: int,
    workers: int,
    seed: int,
    selection: dict[str, Any] | None,
    **config: int,
) -> list[str]:
    """The command line of such a run, its files written."""
    number = next(NUMBERS)
    program = home / f"run-{number}" / "program"
    program.mkdir(parents=True)
    module = f"clinic_{number}"
    (program / f"{module}.py").write_text(PROGRAM)
    spec = {
        "seed": 1,
        "rounds": rounds,
        "program": {
            "entrypoint": f"{module}:task",
            "framework": "numpy",
            "config": {"size": 8, **config},
        },
        "selection": {**SELECTION, **(selection or {})},
        "workers": {"replicas": workers, "restartsPerWorker": 10_000},
        "secureAggregation": {"maxExamples": 2**30} if secure else {"enabled": False},
    }
    job = {"apiVersion": "fljob.dev/v1alpha1", "kind": "FLJob", "metadata": {"name": "clinic"}, "spec": spec}
    (program / "job.yaml").write_text(yaml.safe_dump(job))
    line = [sys.executable, "-m", "job_generator.cli", "run", str(program / "job.yaml"), "--plain"]
    line += ["--folder", str(program.parent / "run")]
    if faults:
        chaos = program.parent / "chaos.yaml"
        chaos.write_text(yaml.safe_dump({"seed": seed, "faults": list(faults)}))
        line += ["--chaos", str(chaos)]
    return line
