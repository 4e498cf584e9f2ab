"""Whole jobs with faults of every kind: they complete, and their models are those of their recorded workers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.rounds.faults import tried

pytestmark = [pytest.mark.rounds, pytest.mark.timeout(300)]

FAULTS = [
    {"fault": "kill", "who": "server", "round": 2, "step": "train"},
    {"fault": "nan", "who": "worker-1", "round": 3},
    {"fault": "corrupt", "who": "worker-2", "round": 4},
    {"fault": "corrupt", "who": "worker-3", "what": "connection", "round": 5},
    {"fault": "kill", "who": "scheduler", "round": 6, "step": "select"},
    {"fault": "cut", "who": "server", "round": 7, "step": "train", "seconds": 1},
    {"fault": "slow", "who": "worker-0", "round": 8, "step": "open", "seconds": 2, "delaySeconds": 0.1},
    {"fault": "full_disk", "round": 9, "step": "commit", "seconds": 1},
    {"fault": "stop", "who": "server", "round": 10, "step": "upload", "seconds": 1},
]


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "secure"])
def test_a_job_gets_over_every_kind_of_fault(tmp_path: Path, *, secure: bool) -> None:
    """It completes, no round is lost or counted twice, who was spoilt is out of that round, and the report says all."""
    run = tried(tmp_path, FAULTS, secure=secure, rounds=11)
    run.check()
    report = run.report
    assert [(deed["who"], deed["round"]) for deed in report["done"]] == [
        (fault.get("who", "server"), fault["round"]) for fault in FAULTS
    ]
    assert report["not_done"] == []
    assert report["job"]["restarts"] == {"scheduler": 1, "server": 1}
    assert all(deed["back_after"] is not None for deed in report["done"])
    rows = {row["round"]: row for row in run.rounds()}
    assert (rows[9]["result"], rows[9]["attempt"]) == ("Committed", 1)
    assert "worker-1" not in rows[3]["reporters"]
    assert ("its own log says why" if secure else "finite") in rows[3]["dropouts"]["worker-1"]
    assert rows[4]["dropouts"]["worker-2"] == "refused: a checksum does not fit what came"
    assert rows[11]["reporters"] == [f"worker-{index}" for index in range(4)]
    assert "11 rounds in" in run.said


def test_a_flipped_sign_goes_into_a_plain_mean(tmp_path: Path) -> None:
    """The hostile update is accepted and moves the model: what a robust rule is for."""
    fault = {"fault": "sign_flip", "who": "worker-0", "round": 1}
    flipped = tried(tmp_path, [fault], secure=False, rounds=1)
    assert flipped.code == 0, flipped.said
    (row,) = flipped.rounds()
    assert row["reporters"] == [f"worker-{index}" for index in range(4)]
    assert [row["model"]] != flipped.should_be()


LABELLED = """
import numpy as np
from sklearn.linear_model import SGDClassifier
from fl_worker import Task, metrics

def task(config, site):
    rng = site.rng("data")
    labels = rng.integers(0, 2, 2000 if site.index == 0 else 100)
    inputs = rng.normal(size=(len(labels), 4)) + 2 * (2 * labels[:, None] - 1)
    held = rng.integers(0, 2, 100)
    test = rng.normal(size=(100, 4)) + 2 * (2 * held[:, None] - 1), held
    model = SGDClassifier(loss="log_loss", random_state=1)
    return Task(model=model, classes=[0, 1], train=(inputs, labels), test=test,
                metrics={"accuracy": metrics.Accuracy()})
"""


@pytest.mark.parametrize(("rule", "withstands"), [("mean", False), ("median", True)])
def test_flipped_labels_turn_a_mean_and_not_a_median(tmp_path: Path, rule: str, *, withstands: bool) -> None:
    """Of five workers the one with most examples trains on flipped labels: only the robust rule learns the classes."""
    (tmp_path / "labelled.py").write_text(LABELLED)
    (tmp_path / "chaos.yaml").write_text("faults: [{fault: label_flip, who: worker-0, round: 1}]")
    spec = {
        "seed": 1,
        "rounds": 1,
        "program": {"entrypoint": "labelled:task", "framework": "sklearn"},
        "workers": {"replicas": 5},
        "selection": {"minimum": 5},
        "secureAggregation": {"enabled": False},
        "aggregation": {"name": rule, **({"hostile": 1} if withstands else {})},
    }
    job = {"apiVersion": "fljob.dev/v1alpha1", "kind": "FLJob", "metadata": {"name": "flip"}, "spec": spec}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    line = [sys.executable, "-m", "job_generator.cli", "run", str(tmp_path / "job.yaml")]
    line += ["--folder", str(tmp_path / "run"), "--chaos", str(tmp_path / "chaos.yaml")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    row = json.loads((tmp_path / "run" / "storage" / "metrics.jsonl").read_text().splitlines()[0])
    assert row["reporters"] == [f"worker-{index}" for index in range(5)]
    assert (row["metrics"]["accuracy"] > 0.9) == withstands
    assert (row["metrics"]["accuracy"] < 0.5) != withstands
