"""Two real servers of one job on one storage: the older one commits nothing more and ends, and the job goes on."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fl_core.errors import FencedError, MismatchError
from tests.rounds.conftest import until

pytestmark = pytest.mark.rounds

Job = Callable[..., Any]
MOMENTUM = {"strategy": {"name": "momentum:Momentum", "beta": 0.5}}


def another(run: Any, name: str, module: list[str] | None = None) -> str:
    """Start a server of this job on its storage, beside any that is there."""
    return str(
        run.start(
            name,
            module or ["fl_server"],
            identity=str(run.identity("server")),
            scheduler=run.announced["scheduler"]["address"],
            storage=str(run.storage),
            listen="127.0.0.1:0",
        )
    )


def kept(run: Any) -> dict[str, bytes]:
    """What the servers have committed."""
    return {one.name: one.read_bytes() for one in run.storage.rglob("*.safetensors")} | {
        "record": (run.storage / "metrics.jsonl").read_bytes()
    }


def ended(run: Any, name: str) -> None:
    """This server has ended because a newer one is there, and says so."""
    assert run.code(name) == FencedError.exit_code
    assert "was claimed by a newer server of this job (epoch 2, this one has 1)" in run.said(name)


def test_a_server_that_slept_commits_nothing(job: Job, tmp_path: Path) -> None:
    """Held before it saves round 2 while a newer one restores round 1, it ends; the models are the undisturbed ones."""
    undisturbed, run = job(spec=MOMENTUM), job(spec=MOMENTUM)
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
