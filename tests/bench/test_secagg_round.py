"""The benchmark of secure sums in whole rounds, on a tiny job."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from bench.ours import PROGRAM
from bench.secagg_round import main


@pytest.mark.rounds
def test_a_tiny_job_is_measured_with_and_without(tmp_path: Path) -> None:
    """Each kind of run has a line with its median and each role's processor time; then what sums add."""
    shutil.copy(PROGRAM / "noop.py", tmp_path)
    program = {"entrypoint": "noop:task", "framework": "numpy", "config": {"elements": 100}}
    spec = {"rounds": 12, "program": program, "selection": {"minimum": 3}, "workers": {"replicas": 3}}
    document = {
        "apiVersion": "fljob.dev/v1alpha1",
        "kind": "FLJob",
        "metadata": {"name": "tiny"},
        "spec": spec,
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(document))
    line = ["--rounds", "12", "--times", "1", "--job", str(tmp_path / "job.yaml")]
    done = CliRunner().invoke(main, line, catch_exceptions=False)
    secure, plain, added, together = done.output.splitlines()
    assert (secure.split()[:4], plain.split()[:4]) == (
        ["secure", "median", "of", "10:"],
        ["plain", "median", "of", "10:"],
    )
    assert added.startswith("added to a round: by the clock ")
    assert together.startswith("all 5 processes: ")
    for line in (secure, plain):
        spent = line.rpartition("of the processor ")[2].split(", ")
        assert [one.split()[0] for one in spent] == ["server", "scheduler", "worker"]
        assert all(int(one.split()[1]) > 0 for one in spent)
