from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fl_core.plan import Plan
from job_generator.compiler import compile_job
from job_generator.processes import ROLES, arguments
from job_generator.roles import ANYWHERE, SECTIONS, role_jobs
from job_generator.source import Document


@pytest.fixture
def plan(whole_map: Callable[..., dict[str, Any]]) -> Plan:
    """The Plan of a job that sets every field."""
    return compile_job(Document(whole_map()).job())


def test_processes(plan: Plan) -> None:
    """There is one scheduler, one server, and a process for each worker that there may be, sites included."""
    jobs = role_jobs(plan)
    assert {role: job["processes"] for role, job in jobs.items()} == {
        "scheduler": 1,
        "server": 1,
        "worker": 22,
    }


def test_sections(plan: Plan) -> None:
    """Each role's part is that of the Plan, and together the roles act on all of it."""
    whole = plan.model_dump(mode="json")
    for job in role_jobs(plan).values():
        assert {**whole, **job["plan"]} == whole
        assert job["planDigest"] == plan.digest
    assert {name for names in SECTIONS.values() for name in names} | {"version", "job"} == set(whole)


def test_a_workers_own(plan: Plan) -> None:
    """Only a worker's part holds the user's program."""
    holding = [role for role, job in role_jobs(plan).items() if "package.program" in json.dumps(job["plan"])]
    assert holding == ["worker"]


@pytest.mark.parametrize("role", ROLES)
def test_placeholders(plan: Plan, role: str) -> None:
    """The command line has a $(WORD) for whatever its place decides, and holds nothing of this machine."""
    job = role_jobs(plan)[role]  # type: ignore[index]
    anywhere = replace(ANYWHERE, initial_model="$(INITIAL_MODEL)")
    values = arguments(role, anywhere)[1::2]  # type: ignore[arg-type]
    assert all(value.startswith("$(") for value in values)
    assert job["command"][-len(values) * 2 :][1::2] == values
    assert "/" not in json.dumps(job["command"])


def test_a_file_to_begin_with(job_map: Callable[..., dict[str, Any]]) -> None:
    """Only a job that has one asks for its file."""
    command = role_jobs(compile_job(Document(job_map()).job()))["server"]["command"]
    assert "--initial-model" not in command


def test_exit_codes(plan: Plan) -> None:
    """Whoever starts a process learns which ends are for good, and which was asked for."""
    codes = role_jobs(plan)["server"]["exitCodes"]
    assert {64, 65, 66, 67, 68, 72} == set(codes["permanent"])
    assert codes["terminated"] == 143
    assert {0, 74, 75, codes["terminated"]} & set(codes["permanent"]) == set()


def test_size(whole_map: Callable[..., dict[str, Any]], plan: Plan) -> None:
    """The FL-Jobs do not grow with the workers."""
    many = compile_job(Document(whole_map(workers={"replicas": 99_999})).job())
    assert len(json.dumps(role_jobs(many))) - len(json.dumps(role_jobs(plan))) < 60
