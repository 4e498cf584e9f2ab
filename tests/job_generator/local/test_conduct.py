from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fl_core.errors import MismatchError
from fl_core.plan import Plan
from job_generator.local.commands import LocalCommands
from job_generator.local.conduct import Presentation, check, conduct
from job_generator.local.folder import RunFolder
from job_generator.local.session import Run


@pytest.fixture
def a_run(tmp_path: Path, a_plan: Callable[..., Plan]) -> Run:
    folder = RunFolder(tmp_path / "run")
    folder.prepare(job="kind: FLJob\n", plan=a_plan(workers=1))
    return Run(folder, a_plan(workers=1), tmp_path, data="shards/{index}", restarts=0)


def test_failure_page(a_run: Run, fake_commands: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """A run that failed shows the user's traceback, who failed and why, and ends with that exit code."""
    body = "say('no module digits', exception='Traceback: line 3'); sys.exit(66)"
    code = conduct(a_run, Presentation(), lambda *_: fake_commands(scheduler_body=body))
    page = capfd.readouterr().out
    assert code == 66
    assert "Traceback: line 3" in page
    assert "scheduler: no module digits" in page
    assert "--role scheduler" in page
    assert "--resume" not in page


def test_retry_advice(a_run: Run, fake_commands: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """A failure that may pass says how to go on."""
    body = "say('the disk is full'); sys.exit(74)"
    assert conduct(a_run, Presentation(), lambda *_: fake_commands(scheduler_body=body)) == 74
    assert f"fl-submit run --resume {a_run.folder.path}" in capfd.readouterr().out


def test_a_replay_that_differs_is_no_success(
    a_run: Run, fake_commands: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is said last, and alone, is what differs; the exit code says so, too."""
    row = {"round": 1, "result": "Committed", "model": "abc", "reporters": ["worker-0"]}
    a_run.folder.replay.write_text(json.dumps(row) + "\n")
    roles = ("scheduler_body", "server_body", "worker_body")
    done = dict.fromkeys(roles, "announce(); sys.exit(0)")
    code = conduct(a_run, Presentation(), lambda *_: fake_commands(**done))
    said = capfd.readouterr().out.splitlines()
    assert (code, said[-1]) == (67, "✗ round 1 was recorded, and is not trained again")
    assert not any("✓" in line or "no model" in line for line in said)


def test_document(a_run: Run, fake_commands: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """With --output json, standard output holds one document and nothing else, also after a failure."""
    conduct(a_run, Presentation(output="json"), lambda *_: fake_commands(scheduler_body="sys.exit(70)"))
    document = json.loads(capfd.readouterr().out)
    assert (document["state"], document["rounds"], document["model"]) == ("Failed", 0, None)


def test_check(a_run: Run) -> None:
    """A run whose program is not the plan's never starts."""
    (a_run.program / "program.py").write_text("task = 1")
    with pytest.raises(MismatchError, match="has changed"):
        check(a_run)


def test_command_lines(a_run: Run, tmp_path: Path) -> None:
    """Each worker gets its own certificate, index and data, and the descriptor to announce itself on."""
    commands = LocalCommands(a_run, tmp_path / "keys")
    line = " ".join(commands.worker(3, scheduler="a:1", server="b:2")(7))
    assert "-m fl_worker train --plan " in line
    assert "/keys/worker-3 " in line
    assert "--index 3 --scheduler a:1 --server b:2" in line
    assert "/shards/3 " in line
    assert line.endswith("--announce-fd 7")
    assert "--storage" in commands.server(listen="c:3", scheduler="a:1")(8)
    assert "c:3" in commands.scheduler(listen="c:3")(8)
