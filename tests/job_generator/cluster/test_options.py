"""Which word means a run on this machine, and which a job on a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from job_generator.cluster.options import is_run


def test_a_folder_of_a_jobs_files_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `init` and `submit` job and folder have one name, and the job on the cluster is meant."""
    monkeypatch.chdir(tmp_path)
    Path("first").mkdir()
    Path("first-run").mkdir()
    Path("first-run/run.json").write_text("{}")
    assert [is_run(word) for word in ("first", "first-run", "./first", "absent")] == [
        False,
        True,
        True,
        False,
    ]
