"""Fake processes that announce, log and exit, and a plan to run them by."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fl_core.plan import Job, Plan, Program, Target
from job_generator.local.child import Command
from job_generator.local.disturbance import PEACE, Disturbance
from job_generator.local.supervisor import Graces, Reports, Staffing, Supervisor

PRELUDE = """
import json, os, signal, sys
def announce(address="127.0.0.1:1"):
    os.write(int(sys.argv[1]), (json.dumps({"address": address, "metrics": "127.0.0.1:2"}) + "\\n").encode())
    os.close(int(sys.argv[1]))
def say(event, level="error", **fields):
    print(json.dumps({"level": level, "event": event, **fields}), file=sys.stderr, flush=True)
def forever():
    signal.pause()
"""
FOREVER = "announce(); forever()"


def script(body: str, *, site: bool = False) -> Command:
    """A process that runs this Python; without site-packages it starts faster."""
    flags = [] if site else ["-S"]
    return lambda announce: [sys.executable, *flags, "-c", PRELUDE + body, str(announce)]


@dataclass
class FakeCommands:
    """The three roles as Python texts; `{index}`, `{scheduler}` and `{server}` are filled in."""

    scheduler_body: str = FOREVER
    server_body: str = FOREVER
    worker_body: str = FOREVER
    site: bool = False

    def scheduler(self, *, listen: str) -> Command:
        return script(self.scheduler_body.replace("{listen}", listen))

    def server(self, *, listen: str, scheduler: str) -> Command:
        body = self.server_body.replace("{listen}", listen).replace("{scheduler}", scheduler)
        return script(body, site=self.site)

    def worker(self, index: int, *, scheduler: str, server: str) -> Command:
        body = self.worker_body.replace("{scheduler}", scheduler).replace("{server}", server)
        return script(body.replace("{index}", str(index)))


@dataclass
class Stage:
    """A supervisor of fake processes in a folder, and what it was heard to say."""

    folder: Path
    said: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    pids: dict[str, int] = field(default_factory=dict)
    graces: Graces = field(default_factory=lambda: Graces(end=0.1, stop=0.5))

    def supervisor(
        self,
        *,
        workers: int = 1,
        quorum: int = 1,
        restarts: int = 3,
        core_restarts: int = 0,
        disturbance: Disturbance = PEACE,
        indispensable: frozenset[str] = frozenset(),
        **bodies: str,
    ) -> Supervisor:
        def start(name: str, pid: int) -> None:
            self.started.append(name)
            self.pids[name] = pid

        return Supervisor(
            FakeCommands(**bodies),
            Staffing(
                workers=workers,
                quorum=quorum,
                restarts=restarts,
                core_restarts=core_restarts,
                indispensable=indispensable,
            ),
            logs=self.folder,
            graces=self.graces,
            disturbance=disturbance,
            reports=Reports(tell=self.said.append, started=start),
        )


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture
def fake_commands() -> type[FakeCommands]:
    return FakeCommands


@pytest.fixture
def a_plan(plan_of: Callable[..., Plan]) -> Callable[..., Plan]:
    """Build a plan of two workers, of whom one suffices."""
    usual: dict[str, Any] = {
        "job": Job(name="digits", namespace="default", uid="4f0d"),
        "program": Program(entrypoint="program:task", framework="numpy"),
        "target": Target(metric="accuracy", at_least=0.9),
        "per_round": 2,
        "minimum": 1,
        "workers": 2,
        "rounds": 4,
    }
    return lambda **changes: plan_of(**{**usual, **changes})
