"""The keys of a run do not outlive it by more than a killed run's time until the next one."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fl_core.plan import Plan
from job_generator.local.keys import PREFIX, identities

KILLED = """
import os, sys
from pathlib import Path
from fl_core.plan import Plan
from job_generator.local.keys import identities
with identities(Plan.read(Path(sys.argv[1]))) as keys:
    print(keys, flush=True)
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files."""
    where = tmp_path / "tmp"
    where.mkdir()
    monkeypatch.setenv("TMPDIR", str(where))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return where


def test_a_run_removes_the_keys_of_one_that_was_killed(
    a_plan: Callable[..., Plan], tmp_path: Path, temporary: Path
) -> None:
    """They lie there after SIGKILL, and are gone when the next run starts; a living run's are left alone."""
    (tmp_path / "plan.json").write_text(a_plan().to_json())
    with identities(a_plan()) as living:
        line = [sys.executable, "-c", KILLED, str(tmp_path / "plan.json")]
        killed = Path(subprocess.run(line, stdout=subprocess.PIPE, text=True, check=False).stdout.strip())
        assert killed.parent == temporary
        assert (killed / "server" / "key.pem").exists()
        with identities(a_plan()):
            assert not killed.exists()
            assert (living / "server" / "key.pem").exists()
    assert not [*temporary.iterdir()]


def test_only_a_private_folder_of_keys_is_swept(a_plan: Callable[..., Plan], temporary: Path) -> None:
    """One that others can read was made by no run, a link leads elsewhere, and an empty one may be just being made."""
    elsewhere = temporary / "elsewhere"
    for name, mode in (("elsewhere", 0o700), (f"{PREFIX}open", 0o755), (f"{PREFIX}empty", 0o700)):
        (temporary / name).mkdir(mode=mode)
    for name in ("elsewhere", f"{PREFIX}open"):
        (temporary / name / "kept").touch()
    (temporary / f"{PREFIX}link").symlink_to(elsewhere)
    with identities(a_plan()):
        names = {path.name for path in temporary.iterdir()}
    assert {"elsewhere", f"{PREFIX}open", f"{PREFIX}empty", f"{PREFIX}link"} < names
    assert (elsewhere / "kept").exists()
