from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result


@pytest.mark.parametrize("there", [True, False])
def test_jobs_of_a_cluster_are_elsewhere(
    submit: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, there: bool
) -> None:
    """Whoever has a kubeconfig is told that the list is of this machine; nobody else is, and no program."""
    file = tmp_path / "config"
    if there:
        file.write_text("never read")
    monkeypatch.setenv("KUBECONFIG", str(file))
    told = submit("list", "--runs", tmp_path)
    assert ("fl-submit list --cluster" in told.stderr) == there
    assert (told.exit_code, submit("list", "--runs", tmp_path, "--output", "json").stderr) == (0, "")
