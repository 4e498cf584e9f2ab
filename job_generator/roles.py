"""The FL-Jobs of a Plan: what the server, the scheduler and the workers are each started with.

`fl-submit compile -o jobs/` writes them for review; a word in $(...) is filled in by whoever starts the process.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fl_core.errors import PERMANENT_EXIT_CODES, TERMINATED_EXIT_CODE
from fl_core.plan import Plan
from job_generator.processes import ROLES, Place, Role, installed

SECTIONS: dict[Role, tuple[str, ...]] = {
    "scheduler": ("seed", "workers", "sites", "selection"),
    "server": (
        "rounds", "initial_model", "target", "early_stopping",
        "strategy", "aggregation", "compression", "secure_aggregation", "privacy",
        "selection", "evaluation_every", "checkpoint", "ready_seconds",
    ),
    "worker": (
        "seed", "workers", "sites", "program", "strategy", "compression", "secure_aggregation", "privacy", "selection",
        "checkpoint",
    ),
}  # fmt: skip
"""What of the Plan each role acts on; every role gets the whole Plan, and its digest guards it."""

ANYWHERE = Place(
    plan="$(PLAN)",
    identity="$(IDENTITY)",
    metrics="$(METRICS_ADDRESS)",
    listen="$(LISTEN_ADDRESS)",
    scheduler="$(SCHEDULER_ADDRESS)",
    server="$(SERVER_ADDRESS)",
    storage="$(STORAGE)",
    index="$(INDEX)",
    program="$(PROGRAM)",
    data="$(DATA)",
    states="$(STATES)",
)


def role_jobs(plan: Plan) -> dict[Role, dict[str, Any]]:
    """One document per role: how many processes, their command line, their part of the Plan."""
    return {role: _role_job(plan, role) for role in ROLES}


def _role_job(plan: Plan, role: Role) -> dict[str, Any]:
    whole = plan.model_dump(mode="json")
    return {
        "job": whole["job"],
        "role": role,
        "planDigest": plan.digest,
        "processes": plan.workers if role == "worker" else 1,
        "command": installed(role, _place(plan)),
        "exitCodes": {"permanent": list(PERMANENT_EXIT_CODES), "terminated": TERMINATED_EXIT_CODE},
        "plan": {name: whole[name] for name in SECTIONS[role]},
    }


def _place(plan: Plan) -> Place:
    """Anywhere; the file that a job begins with is wanted only where there is one."""
    return replace(ANYWHERE, initial_model="$(INITIAL_MODEL)") if plan.initial_model else ANYWHERE
