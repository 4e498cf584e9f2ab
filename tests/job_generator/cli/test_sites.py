from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from fl_core.errors import JobError


@pytest.mark.parametrize("time", ["", "9m", "0h", "1", "1 h", "-1h", "1w", "599", "1.5h", "100000d"])
def test_a_time_that_is_none(submit: Callable[..., Result], time: str) -> None:
    """A time too short for the API server, or none at all, is wrong usage, with examples of right ones."""
    done = submit("site", "token", "scans", "hospital", "--expires", time)
    assert done.exit_code == 2
    assert "such as 30m, 12h or 2d, at least 10m" in done.stderr


def test_a_command_that_is_none(submit: Callable[..., Result]) -> None:
    """A word that is nearly the command is told which."""
    assert "Did you mean 'token'?" in submit("site", "tokens").stderr


def test_no_cluster(submit: Callable[..., Result], tmp_path: Path) -> None:
    """Where there is no cluster the error is one sentence, and no file is written."""
    (tmp_path / "config").write_text("clusters: []", encoding="utf-8")
    target = tmp_path / "hospital.json"
    words = ("--kubeconfig", tmp_path / "config", "-o", target, "--expires", "12h")
    done = submit("site", "token", "scans", "hospital", *words)
    assert done.exit_code == JobError.exit_code
    assert done.stderr.startswith("Error: there is no cluster to speak to")
    assert not target.exists()
