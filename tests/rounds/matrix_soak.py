"""A long job with a random kill in every other round, in minutes: `pytest tests/rounds/matrix_soak.py -s`.

`FLJOB_SOAK_ROUNDS=60` makes it shorter.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rounds.faults import Tried, prepared

ROUNDS = int(os.environ.get("FLJOB_SOAK_ROUNDS", "200"))
PATIENCE = 30 * ROUNDS

pytestmark = [pytest.mark.rounds, pytest.mark.timeout(PATIENCE + 60)]

SEED = 314
"""Of the kills, drawn so that one server lives for 46 rounds, also where there are no more than 60."""
KILLS = {"fault": "kill", "who": "any", "round": "2-", "every": 2}
SAMPLE_SECONDS = 0.5
FEWEST_SAMPLES = 60
"""A process that lived for less says nothing about growth."""
LONG_LIVED = ("fl-submit", "server", "worker-")
"""Of each of these at least one lives for so long."""

MEMORY_GROWTH = 1.1
FILES_GROWTH = 8
"""Connections that come and go; a leak of one for each kill would be more."""


@dataclass(frozen=True)
class Sample:
    """Resident memory in KiB, and open files."""

    memory: int
    files: int


def sampled(pid: int) -> Sample | None:
    """How a process stands; None if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        return Sample(memory, len(list(Path(f"/proc/{pid}/fd").iterdir())))
    except (OSError, StopIteration):
        return None


def watched(line: list[str], folder: Path) -> tuple[int, str, dict[str, list[Sample]]]:
    """Run it to its end; gives exit code, output and the samples of each process that there was."""
    samples: dict[str, list[Sample]] = defaultdict(list)
    output = folder.parent / "output"
    with output.open("w") as stream:
        process = subprocess.Popen(line, stdout=stream, stderr=subprocess.STDOUT)
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
        state = folder / "run.json"
        pids = json.loads(state.read_text()).get("pids", {}) if state.exists() else {}
        for name, pid in {"fl-submit": process.pid, **pids}.items():
            if (sample := sampled(pid)) is not None:
                samples[f"{name} {pid}"].append(sample)
        time.sleep(SAMPLE_SECONDS)
    process.kill()
    return process.wait(), output.read_text(), samples


def growth(samples: list[Sample]) -> tuple[float, int]:
    """The last third against the middle one: how many times the memory, how many more files."""
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[2 * third :]
    memory = statistics.median(one.memory for one in last) / statistics.median(one.memory for one in middle)
    return memory, max(one.files for one in last) - max(one.files for one in middle)


def test_a_long_job_loses_nothing_and_grows_nowhere(tmp_path: Path) -> None:
    """With a random kill in every other round no round is lost, and memory and open files stay as they are."""
    line = prepared(tmp_path, [KILLS], secure=False, rounds=ROUNDS, workers=4, seed=SEED, selection=None)
    folder = Path(line[line.index("--folder") + 1])
    code, said, samples = watched(line, folder)
    done = Tried(folder, folder.parent / "program", code, said)
    done.check()
    killed = len(done.report["done"])
    long = {name: growth(some) for name, some in samples.items() if len(some) >= FEWEST_SAMPLES}
    figures = {
        name: f"memory x{memory:.3f}, {files:+d} files in {len(samples[name])} samples"
        for name, (memory, files) in long.items()
    }
    print(f"{ROUNDS} rounds, {killed} kills", json.dumps(done.report["job"]), json.dumps(figures, indent=1))  # noqa: T201
    assert killed > 0.8 * (ROUNDS // 2)
    lives = {name: len(some) for name, some in samples.items()}
    assert all(any(name.startswith(role) for name in long) for role in LONG_LIVED), lives
    for name, (memory, files) in long.items():
        assert memory < MEMORY_GROWTH, (name, memory)
        assert files <= FILES_GROWTH, (name, files)
