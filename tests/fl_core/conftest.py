"""Builders: a plan, certificates in folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fl_core.identity import Authority, Identity
from fl_core.plan import Plan

JOB = "job-1"


@pytest.fixture(scope="session")
def plan(plan_of: Callable[..., Plan]) -> Callable[..., Plan]:
    """Build a plan that asks three workers and closes with two; the fields that matter by name."""
    return lambda **changes: plan_of(**{"per_round": 2, "extra": 1, **changes})


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
