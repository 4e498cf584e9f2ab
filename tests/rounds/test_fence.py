"""Two real servers of one job on one storage: the older one commits nothing more and ends, and the job goes on."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fl_core.errors import FencedError, MismatchError
from tests.rounds.conftest import until

pytestmark = pytest.mark.rounds

Job = Callable[..., Any]
DEADLINE_SECONDS, HEAD_START_SECONDS = 5, 2
"""Of a round; how long before the newer server the older one has begun its own."""
MOMENTUM = {"strategy": {"name": "momentum:Momentum", "beta": 0.5}}
ALL: dict[str, Any] = {"minimum": 3, "onShortfall": {"action": "Retry", "attempts": 30}}
"""Every worker or another attempt: each round has the undisturbed job's cohort, however busy the machine is."""


def another(run: Any, name: str, module: list[str] | None = None, *, listen: str = "127.0.0.1:0") -> str:
    """Start a server of this job on its storage, beside any that is there."""
    return str(
        run.start(
            name,
            module or ["fl_server"],
            identity=str(run.identity("server")),
            scheduler=run.announced["scheduler"]["address"],
            storage=str(run.storage),
            listen=listen,
        )
    )


def kept(run: Any) -> dict[str, bytes]:
    """What the servers have committed."""
    return {one.name: one.read_bytes() for one in run.storage.rglob("*.safetensors")} | {
        "record": (run.storage / "metrics.jsonl").read_bytes()
    }


def ended(run: Any, name: str, *, epoch: int = 1) -> None:
    """This server has ended because a newer one is there, and says so."""
    assert run.code(name) == FencedError.exit_code
    said = run.said(name)
    claimed = f"was claimed by a newer server of this job (epoch {epoch + 1}, this one has {epoch})"
    called = f"has called (its claim to the storage has epoch {epoch + 1}, this one's {epoch})"
    assert claimed in said or called in said


def test_a_server_that_slept_commits_nothing(job: Job, tmp_path: Path) -> None:
    """Held before it saves round 2 while a newer one restores round 1, it ends; the models are the undisturbed ones."""
    undisturbed, run = (job(spec=MOMENTUM, selection=ALL) for _ in range(2))
    strings = tmp_path / "strings"
    strings.mkdir()
    (strings / "save.2").write_text("wait")
    run.scheduler()
    address = another(run, "server", ["tests.rounds.puppet", str(strings), "fl_server"])
    run.worker(0, 1, 2)
    until((strings / "save.2.was").exists, what="the second checkpoint")
    another(run, "newer")
    run.wait_said("newer", "restored")
    before = kept(run)
    (strings / "save.2.go").touch()
    ended(run, "server")
    assert kept(run) == before
    assert [row["round"] for row in run.rounds()] == [1]
    run.kill("newer")
    run.server(listen=address)
    assert run.code("server") == 0
    assert [row["model"] for row in run.rounds()] == [row["model"] for row in undisturbed.finish()]


def test_an_idle_server_ends_too(job: Job) -> None:
    """Stopped in a round while a newer one starts, it ends soon after it wakes, though it has nothing to commit."""
    undisturbed, run = job(), job(gate=2)
    run.begin()
    address = run.announced["server"]["address"]
    run.wait_held()
    run.kill("server", signal.SIGSTOP)
    another(run, "newer")
    run.wait_said("newer", "restored")
    run.kill("server", signal.SIGCONT)
    ended(run, "server")
    run.kill("newer")
    run.server(listen=address)
    run.release()
    assert run.code("server") == 0
    assert [row["model"] for row in run.rounds()] == [row["model"] for row in undisturbed.finish()]


def test_who_wakes_past_its_deadline_does_not_disturb_the_newer_one(job: Callable[..., Any]) -> None:
    """Stopped past its round's deadline while a newer server goes on, it ends; not one attempt of the job is lost."""
    brief = {"deadlineSeconds": DEADLINE_SECONDS, "stallSeconds": DEADLINE_SECONDS, "minimum": 3}
    undisturbed, run = job(selection=brief), job(selection=brief, gate=3)
    run.scheduler()
    address = run.server()
    run.worker(0, 1, 2)
    run.wait_recorded(1)
    run.kill("server")
    another(run, "older")  # whom the workers do not find
    run.wait_said("older", "cohort")
    run.kill("older", signal.SIGSTOP)
    stopped = time.monotonic()
    until(lambda: time.monotonic() > stopped + HEAD_START_SECONDS, what="some of the older one's time")
    another(run, "newer", listen=address)
    run.wait_held()
    until(lambda: time.monotonic() > stopped + DEADLINE_SECONDS, what="the older one's deadline")
    run.kill("older", signal.SIGCONT)
    ended(run, "older", epoch=2)
    run.release()
    assert run.code("newer") == 0, run.said("newer")
    rounds = run.rounds()
    assert [(row["round"], len(row["reporters"])) for row in rounds] == [(one, 3) for one in range(1, 5)]
    assert [row["attempt"] for row in rounds[2:]] == [1, 1]
    assert [row["model"] for row in rounds] == [row["model"] for row in undisturbed.finish()]


def test_a_storage_that_another_plan_began_is_left_alone(job: Job) -> None:
    """A server of the same job with another plan ends for good, says what to do, and changes nothing."""
    run, other = job(), job(gate=1)
    run.finish()
    before = kept(run)
    other.scheduler()
    line = {"identity": other.identity("server"), "storage": run.storage}
    other.spawn(
        "server", ["fl_server"], **{name: str(path) for name, path in line.items()}, scheduler="127.0.0.1:1"
    )
    assert other.code("server") == MismatchError.exit_code
    assert "nothing in it was changed: go on with that plan, or start another job" in other.said("server")
    assert kept(run) == before
