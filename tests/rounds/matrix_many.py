"""Twenty jobs of five workers at once, whose three busiest control processes are killed.

`pytest tests/rounds/matrix_many.py -s` runs it. The shape is that of the kill test of Flower's high-availability work,
on one machine: control processes are here the servers and the schedulers, each of which belongs to one job. It needs
about 10 GB of memory.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.rounds.faults import Tried, prepared

JOBS = 20
WORKERS = 5
VICTIMS = 3
PATIENCE = 900

pytestmark = [pytest.mark.rounds, pytest.mark.timeout(PATIENCE + 300)]

SELECTION = {"deadlineSeconds": 300, "stallSeconds": 300, "joinSeconds": 300}


def control(folder: Path) -> dict[int, str]:
    """The job's server and scheduler by their numbers, once both are there."""
    state = folder / "run.json"
    pids: dict[str, Any] = json.loads(state.read_text()).get("pids", {}) if state.exists() else {}
    if not {"server", "scheduler", f"worker-{WORKERS - 1}"} <= pids.keys():
        return {}
    return {pids[role]: f"{role} of {folder.parent.name}" for role in ("server", "scheduler")}


def busy(pid: int) -> int:
    """How much processor time it has had, in ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_every_job_completes_when_the_busiest_are_killed(tmp_path: Path) -> None:
    """All jobs complete with all their rounds, each with the models of its recorded workers; none is stuck."""
    lines = [
        prepared(tmp_path, [], secure=False, rounds=3, workers=WORKERS, seed=1, selection=SELECTION)
        for _ in range(JOBS)
    ]
    folders = [Path(line[line.index("--folder") + 1]) for line in lines]
    begin = time.monotonic()
    runs = [
        subprocess.Popen(line, stdout=(folder.parent / "output").open("w"), stderr=subprocess.STDOUT)
        for line, folder in zip(lines, folders, strict=True)
    ]
    try:
        while not all(
            control(folder) or run.poll() is not None for folder, run in zip(folders, runs, strict=True)
        ):
            assert time.monotonic() < begin + PATIENCE
            time.sleep(0.5)
        there = {pid: who for folder in folders for pid, who in control(folder).items()}
        victims = sorted(there, key=busy, reverse=True)[:VICTIMS]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        left = begin + PATIENCE
        codes = [run.wait(max(left - time.monotonic(), 1)) for run in runs]
    finally:
        for run in runs:
            run.kill()
    seconds = time.monotonic() - begin
    print(f"killed {[there[pid] for pid in victims]}; {codes.count(0)} of {JOBS} in {seconds:.0f} s")  # noqa: T201
    assert len(victims) == VICTIMS
    assert codes == [0] * JOBS
    for folder in folders:
        done = Tried(folder, folder.parent / "program", 0, (folder.parent / "output").read_text())
        rows = done.rounds()
        assert [row["round"] for row in rows] == [1, 2, 3]
        assert [row["model"] for row in rows] == done.should_be()
    crashed = sum("it starts again" in (folder.parent / "output").read_text() for folder in folders)
    assert crashed >= 1
