"""What tests of several packages need: a Plan, field by field."""

from __future__ import annotations

import gc
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# As `fl-submit` does: tests start processes beside gRPC's threads, whose handlers of a fork end some of them.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from fl_core.extensions import Extension
from fl_core.plan import Checkpoint, Job, Plan, Privacy, Program, Selection, Shortfall

# What a fork of a test inherits is not its own to clean up: a channel would wait for ever for a thread of its parent's.
os.register_at_fork(after_in_child=gc.disable)

# What is tried is whether it is right: how long an example takes depends on what else the machine does.
settings.register_profile(
    "whole", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("quick", settings.get_profile("whole"), max_examples=25)  # `make quick`
settings.load_profile("whole")


def plan_of(**changes: Any) -> Plan:
    """Two rounds of three workers, of whom two suffice; selection's and the plan's fields by name."""
    selection = Selection(
        policy=Extension(name="uniform"),
        per_round=3,
        extra=0,
        minimum=2,
        join_seconds=30,
        stall_seconds=30,
        deadline_seconds=30,
        on_shortfall=Shortfall(action="Fail", attempts=1),
    )
    known = {name: changes.pop(name) for name in list(changes) if name in Selection.model_fields}
    fields = {
        "job": Job(name="test", namespace="default", uid="job-1"),
        "seed": 1,
        "rounds": 2,
        "target": None,
        "program": Program(entrypoint="toy:task", framework="numpy"),
        "strategy": Extension(name="fedavg"),
        "aggregation": Extension(name="mean"),
        "compression": (),
        "selection": selection.model_copy(update=known),
        "evaluation_every": 1,
        "checkpoint": Checkpoint(every_rounds=1, keep=2),
        "workers": 3,
        "ready_seconds": 30,
    }
    return Plan(**{**fields, **changes})


def private(*, noise: float = 2.0, epsilon: float = 8.0) -> Privacy:
    """Gaussian noise for one worker, so many times the clip norm of 1, with this budget."""
    mechanism = Extension(name="gaussian", options={"clip": 1.0, "noise_multiplier": noise})
    return Privacy(unit="worker", mechanism=mechanism, epsilon=epsilon, delta=1e-5, corrupt=1, measured=True)


@pytest.fixture(name="plan_of", scope="session")
def _plan_of() -> Any:
    """Build a Plan; the fields that matter by name."""
    return plan_of
