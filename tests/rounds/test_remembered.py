"""Whole runs whose stages remember: the rounding errors that count are handed in, whoever was late or went back."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.rounds.conftest import PATIENCE, Run
from tests.rounds.submitted import SPEC, fl_submit, folder, heard, model, rows, spawned, state, written

pytestmark = [pytest.mark.rounds, pytest.mark.timeout(300)]

HALF: dict[str, Any] = {
    **SPEC,
    "rounds": 8,
    "compression": [{"name": "float16"}],
    "secureAggregation": {"enabled": False},
}
DEADLINE_SECONDS = 4

LATE = [
    {"fault": "corrupt", "who": "worker-2", "round": 2},
    {"fault": "stop", "who": "worker-1", "round": 4, "step": "upload", "seconds": DEADLINE_SECONDS + 2},
]


def ended(process: subprocess.Popen[str]) -> str:
    """Wait for a run that ends well, and give what it said."""
    said = process.communicate(timeout=2 * PATIENCE)[0]
    assert process.returncode == 0, said
    return said


def test_an_update_that_came_to_nothing_is_none_in_a_replay(job: Callable[..., Run]) -> None:
    """One was refused, one came too late, and both workers went on: who is not asked then makes the same bytes."""
    run = job()
    run.release()
    chaos, before, after = run.folder / "chaos.yaml", folder(run), run.folder / "after"
    chaos.write_text(yaml.safe_dump({"faults": LATE}))
    selection = {"minimum": 2, "deadlineSeconds": DEADLINE_SECONDS, "stallSeconds": DEADLINE_SECONDS}
    file = written(run, {**HALF, "selection": selection})
    with spawned("run", file, "--folder", before, "--chaos", chaos, "--plain") as process:
        ended(process)
    told = rows(before)
    assert told[1]["dropouts"]["worker-2"] == "refused: a checksum does not fit what came"
    assert "worker-1" in set(told[3]["cohort"]) - set(told[3]["reporters"])
    assert {"worker-1", "worker-2"} <= {worker for row in told[4:] for worker in row["reporters"]}
    with spawned("run", "--replay", before, "--folder", after, "--plain") as process:
        assert "✓ 8 rounds replayed: the same models, byte for byte" in ended(process)
    assert model(after) == model(before)


def halted(run: Run, file: Path, command: str) -> int:
    """A run to which this was said while all its workers trained; gives the round that it ended with."""
    with spawned("run", file, "--folder", folder(run), "--plain") as process:
        run.wait_held()
        subprocess.run(fl_submit(command, folder(run)), check=True, capture_output=True, timeout=PATIENCE)
        heard(process, "Finishing: this round ends")
        for gate in run.gates:
            gate.close()
        process.communicate(timeout=PATIENCE)
    assert state(folder(run))["state"] == {"stop": "Stopped", "suspend": "Suspended"}[command]
    return int(rows(folder(run))[-1]["round"])


@pytest.mark.parametrize("command", ["stop", "suspend"])
def test_a_server_goes_back_to_where_it_was_halted(job: Callable[..., Run], command: str) -> None:
    """No checkpoint was due there, and the workers have what goes with it: the model is that of an undisturbed run."""
    spec = {**HALF, "server": {"checkpoint": {"everyRounds": 10, "keep": 1}}}
    calm, run = job(), job()
    calm.release()
    with spawned("run", written(calm, spec), "--folder", folder(calm), "--plain") as process:
        ended(process)
    last = halted(run, written(run, spec), command)
    with spawned("resume", folder(run), "--plain") as process:
        run.wait_held()
        os.kill(state(folder(run))["pids"]["server"], signal.SIGKILL)
        heard(process, "server crashed")
        run.release()
        ended(process)
    assert [row["round"] for row in rows(folder(run)) if row["result"] == "Restored"] == [last]
    assert model(folder(run)) == model(folder(calm))
