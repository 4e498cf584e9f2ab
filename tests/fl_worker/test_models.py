"""The program's own model with the weights that a run has trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from fl_core.errors import MismatchError, StorageError
from fl_worker import trained

PROGRAM = """
import numpy as np

class Line:
    def weights(self): return {"slope": np.zeros(1, "f4"), "shift": np.zeros(1, "f4")}
    def train(self, weights): return weights, 1
    def evaluate(self, weights): return {"at_two": float(2 * weights["slope"][0] + weights["shift"][0])}

def task(config, site): return Line()
"""


@pytest.fixture
def a_run(tmp_path: Path, write: Callable[..., Any]) -> Path:
    """A run's folder, as `fl-submit run` leaves it."""
    program, folder = write(PROGRAM), tmp_path / "run"
    (folder / "storage" / "models").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"program": str(program.folder), "data": None}))
    (folder / "plan.json").write_text(program.plan.to_json())
    save_model(folder, shift=np.ones(1, "f4"), slope=np.full(1, 3, "f4"))
    return folder


def save_model(folder: Path, **arrays: np.ndarray) -> None:
    save_file(arrays, folder / "storage" / "models" / "last.safetensors")


def test_predicts(a_run: Path) -> None:
    """The program's object and the run's weights, in the program's order, give the model's answers."""
    line, weights = trained(a_run)
    assert line.evaluate(weights) == {"at_two": 7.0}
    assert list(weights) == ["slope", "shift"]


def test_another_model(a_run: Path) -> None:
    """Weights of another shape than the program's are refused."""
    save_model(a_run, slope=np.zeros(2, "f4"), shift=np.zeros(1, "f4"))
    with pytest.raises(MismatchError, match="is not a model of this program"):
        trained(a_run)


def test_a_storage_that_is_lost_here(a_run: Path) -> None:
    """Where a store has what the folder has lost, the command is named that brings it back."""
    state = json.loads((a_run / "run.json").read_text())
    (a_run / "run.json").write_text(json.dumps({**state, "store": "s3://jobs/line"}))
    assert trained(a_run)[1]["slope"] == 3
    (a_run / "storage" / "models" / "last.safetensors").unlink()
    with pytest.raises(
        StorageError, match=f"run --resume {a_run}` brings back what was kept in s3://jobs/line"
    ):
        trained(a_run)


def test_changed_program(a_run: Path) -> None:
    """A program that has changed since the run is refused before it is imported."""
    (program,) = Path(json.loads((a_run / "run.json").read_text())["program"]).glob("*.py")
    program.write_text("raise SystemExit")
    with pytest.raises(MismatchError, match="digest"):
        trained(a_run)


def test_no_run(a_run: Path, tmp_path: Path) -> None:
    """A folder that is no run says so, and a run without a model."""
    with pytest.raises(StorageError, match="is not the folder of a run"):
        trained(tmp_path)
    (a_run / "storage" / "models" / "last.safetensors").unlink()
    with pytest.raises(StorageError, match="there is no model"):
        trained(a_run)
