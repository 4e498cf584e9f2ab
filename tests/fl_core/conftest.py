"""Builders: a selection, a plan, certificates in folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fl_core.extensions import Extension
from fl_core.identity import Authority, Identity
from fl_core.plan import Checkpoint, Job, Plan, Program, Selection, Shortfall

JOB = "job-1"


@pytest.fixture(scope="session")
def plan() -> Callable[..., Plan]:
    """Build a plan of three workers, with some of its fields changed."""

    def built(**changes: Any) -> Plan:
        whole: dict[str, Any] = {
            "job": Job(name="test", namespace="default", uid=JOB),
            "seed": 7,
            "rounds": 3,
            "target": None,
            "program": Program(entrypoint="toy:task", framework="numpy"),
            "strategy": Extension(name="fedavg"),
            "aggregation": Extension(name="mean"),
            "compression": (),
            "selection": Selection(
                policy=Extension(name="uniform"),
                per_round=2,
                extra=1,
                minimum=2,
                join_seconds=10,
                stall_seconds=10,
                deadline_seconds=60,
                on_shortfall=Shortfall(action="Retry", attempts=3),
            ),
            "evaluation_every": 1,
            "checkpoint": Checkpoint(every_rounds=1, keep=3),
            "workers": 3,
            "ready_seconds": 60,
        }
        return Plan(**{**whole, **changes})

    return built


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write the credentials of a process: `keys("worker", 1, job=...)` gives the folder."""
    authorities: dict[str, Authority] = {}

    def written(role: str, index: int | None = None, *, job: str = JOB) -> Path:
        authority = authorities.setdefault(job, Authority(job))
        folder = tmp_path_factory.mktemp("keys")
        authority.issue(Identity(job, role, index)).write(folder)
        return folder

    return written
