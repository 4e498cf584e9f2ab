"""Whole jobs that begin with a file: real processes train on from a model, or from another job's checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from fl_core.weights import digest
from fl_server.checkpoints import read

pytestmark = pytest.mark.rounds

Build = Callable[..., Any]

NINE = {"w": np.full(5, 9, "f4")}


def begun(job: Build, model: Path, **more: Any) -> Any:
    """A job that begins with this file, and knows its digest."""
    given = {"uri": str(model), "sha256": hashlib.sha256(model.read_bytes()).hexdigest()}
    return job(spec={"initialModel": given, **more}, selection={"minimum": 3})


def kept(run: Any, number: int) -> Any:
    """The run's checkpoint of this round."""
    return read(run.storage / "checkpoints" / f"round-{number:07d}.safetensors")


@pytest.mark.parametrize(("kind", "secure"), [("safetensors", True), ("npz", False)])
def test_a_model_is_where_the_training_begins(job: Build, tmp_path: Path, kind: str, *, secure: bool) -> None:
    """Of either format and with sums of either kind, round 1 is trained from the file's arrays."""
    model = tmp_path / f"nine.{kind}"
    (np.savez(model, **NINE) if kind == "npz" else save_file(NINE, model))
    run = begun(
        job, model, secureAggregation={"enabled": secure}, rounds=2, server={"checkpoint": {"keep": 9}}
    )
    run.begin(**{"initial-model": str(model)})
    assert run.code("server") == 0, run.said("server")
    assert np.array_equal(kept(run, 0).weights["w"], NINE["w"])
    goal = np.arange(5) + (0 * 10 + 1 * 11 + 2 * 12) / 33
    assert np.allclose(kept(run, 1).weights["w"], 9 + 0.3 * (goal - 9), atol=1e-3)
    assert len(run.rounds()) == 2


def test_a_model_may_begin_a_private_job(job: Build, tmp_path: Path) -> None:
    """With differential privacy, too; the ledger has this job's own rounds and nothing else."""
    model = tmp_path / "nine.npz"
    np.savez(model, **NINE)
    own = {
        "mechanism": {"name": "gaussian", "clip": 1.0, "noiseMultiplier": 2.0},
        "budget": {"epsilon": 50, "delta": 1e-5},
    }
    run = begun(job, model, privacy=own, rounds=2)
    run.begin(**{"initial-model": str(model)})
    assert run.code("server") == 0, run.said("server")
    assert np.abs(kept(run, 1).weights["w"] - 9).max() < 9
    assert len((run.storage / "privacy.jsonl").read_text().splitlines()) == 3


def test_a_model_that_does_not_fit_is_refused(job: Build, tmp_path: Path) -> None:
    """The server compares with what a worker enrolled with, names the array and both shapes, and ends for good."""
    model = tmp_path / "other.npz"
    np.savez(model, w=np.zeros((2, 5), "f4"))
    run = begun(job, model)
    run.begin(**{"initial-model": str(model)})
    assert run.code("server") == 67
    told = run.log("server")[-1]["event"]
    assert told.startswith("spec.initialModel: ")
    assert told.endswith("array w float32[2, 5] should be w float32[5]")
    assert not list((run.storage / "checkpoints").glob("*"))


def test_a_killed_server_needs_the_file_no_more(job: Build, tmp_path: Path) -> None:
    """Once begun, the job goes on from its own checkpoints, though the file is gone."""
    model = tmp_path / "nine.npz"
    np.savez(model, **NINE)
    run = begun(job, model, program={"entrypoint": "toy:task", "framework": "numpy", "config": {"gate": 1}})
    run.begin(**{"initial-model": str(model)})
    run.wait_held()
    address = run.announced["server"]["address"]
    run.kill("server")
    model.unlink()
    run.server(address, **{"initial-model": str(model)})
    run.release()
    assert run.code("server") == 0, run.said("server")
    assert len(run.rounds()) == 4
    assert digest(kept(run, 4).weights) == run.rounds()[-1]["model"]
