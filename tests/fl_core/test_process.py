"""A process ends with one sentence and the exit code that says who must act."""

from __future__ import annotations

import datetime as dt
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fl_core.errors import TERMINATED_EXIT_CODE, MismatchError
from fl_core.identity import CLOCK_SKEW, Authority, Identity
from fl_core.plan import Plan
from fl_core.process import LISTENS_SECONDS, RENEWED, seconds_to

PROGRAM = """
import asyncio
from fl_core.process import process, run_until_terminated

async def main(settings):
    settings.announce(name=settings.identity.name)
    await asyncio.Event().wait()

@process
def command(settings):
    run_until_terminated(main(settings))

command()
"""


FAILS = """
from pathlib import Path
from fl_core import process
from fl_core.errors import ProgramError

process.TERMINATION_LOG = Path({path!r})

@process.process
def command(settings):
    error = ProgramError("patient 17")
    error.outside = {outside!r}
    raise error

command()
"""


def started(plan: Path, identity: Path, *more: str, program: str = PROGRAM) -> subprocess.Popen[str]:
    options = ["--plan", str(plan), "--identity", str(identity), *more]
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", program, *options], text=True, stdout=pipe, stderr=pipe)


def test_a_terminated_process_says_so(
    tmp_path: Path, plan: Callable[..., Plan], keys: Callable[..., Path]
) -> None:
    """It announces itself as one JSON line, and SIGTERM ends it with 143."""
    (tmp_path / "plan.json").write_text(plan().to_json())
    with started(tmp_path / "plan.json", keys("server"), "--announce-fd", "1") as running:
        assert running.stdout is not None
        assert json.loads(running.stdout.readline()) == {"name": "server"}
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == TERMINATED_EXIT_CODE


@pytest.mark.parametrize("outside", ["", "its own log tells"])
def test_what_a_pod_shows_is_what_may_be_said_outside(
    tmp_path: Path, plan: Callable[..., Plan], keys: Callable[..., Path], outside: str
) -> None:
    """The log has the whole sentence; the last words have it too, unless others must not hear it."""
    (tmp_path / "plan.json").write_text(plan().to_json())
    (tmp_path / "words").touch()
    program = FAILS.format(path=str(tmp_path / "words"), outside=outside)
    with started(tmp_path / "plan.json", keys("server"), program=program) as running:
        assert "patient 17" in running.communicate(timeout=30)[1]
    assert (tmp_path / "words").read_text() == (outside or "patient 17")


def test_an_error_is_a_sentence_and_a_code(tmp_path: Path, keys: Callable[..., Path]) -> None:
    """What FLJob raises on purpose is one log line without a traceback, and its branch's exit code."""
    with started(tmp_path / "none.json", keys("server")) as running:
        (line,) = running.communicate(timeout=30)[1].splitlines()
    assert running.returncode == MismatchError.exit_code
    assert "cannot be read" in json.loads(line)["event"]


def test_a_process_ends_before_its_certificate(
    tmp_path: Path, plan: Callable[..., Plan], keys: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself and in order, so that it is started again and enrols anew."""
    (tmp_path / "plan.json").write_text(plan().to_json())
    program = PROGRAM.replace("    run_until", "    settings.renew_in_time()\n    run_until")
    monkeypatch.setattr("fl_core.identity.LIFETIME", CLOCK_SKEW / 6)
    with started(tmp_path / "plan.json", keys("server"), program=program) as running:
        told = running.communicate(timeout=30)[1]
    assert "starting again for a new certificate" in told
    assert running.returncode == TERMINATED_EXIT_CODE


def test_a_certificate_is_renewed_long_before_its_end() -> None:
    """After three quarters of thirty days, a little more or less; at once, but for a moment, where that is past."""
    now = dt.datetime.now(dt.UTC)
    credentials = Authority("a").issue(Identity("u-1", "server"))
    first, last = (seconds_to(credentials.at(share), now) / 86_400 for share in RENEWED)
    assert 20.9 < first < 21.1
    assert 23.9 < last < 24.1
    assert seconds_to(credentials.at(0.5), now + dt.timedelta(days=20)) == LISTENS_SECONDS


@pytest.mark.parametrize("module", ["fl_server.__main__", "fl_scheduler.__main__", "fl_worker.train"])
def test_a_process_loads_nothing_to_draw_with(module: str) -> None:
    """What tracebacks in colours are made with takes a tenth of a second to load, and no process makes them."""
    command = [sys.executable, "-c", f"import sys, {module}; print(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert {"rich", "pygments"} & set(done.stdout.split()) == set()
