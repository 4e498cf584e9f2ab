"""`fl-submit plan`: what a job will need, before anything starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fl_core.errors import PERMANENT_EXIT_CODES, ProgramError
from job_generator.cli.attempt import inherited
from job_generator.cli.check import secrecy_of
from job_generator.cli.files import JobFiles, job_files
from job_generator.local.documents import document_option, write_document

if TYPE_CHECKING:
    from fl_core.models import StoredModel
    from fl_core.plan import Plan
    from job_generator.forecast import Machine, Model
    from job_generator.spec import FLJob


@click.command()
@job_files
@click.option("--data", help="Where worker {index} finds its data, as in 'shards/{index}'.")
@click.option("--measure/--no-measure", default=True, help="Load the program once to learn its model's size.")
@document_option
def plan(*, given: JobFiles, data: str | None, measure: bool, output: str | None) -> None:
    """Show what a job will need: processes, bytes per round, memory, and how many losses it can bear.

    The size of the model is learned from the program itself, in a process of its own.

    \b
    Examples:
      fl-submit plan job.yaml
      fl-submit plan job.yaml --no-measure --output json
    """
    from pydantic.alias_generators import to_camel

    from job_generator.compiler import compile_job
    from job_generator.forecast import Finding, forecast
    from job_generator.local.outlook import show
    from job_generator.local.preflight import shared_data
    from job_generator.outlay import check_budget
    from job_generator.program import sealed

    job = given.load()
    compiled = compile_job(sealed(job, given.program))
    model = measured(compiled, given.program, data) if measure else None
    if notice := shared_data(data, compiled.workers):
        click.echo(notice, err=True)
    expected = forecast(compiled, model=model, machine=machine())
    if told := secrecy_of(job):
        expected = replace(expected, findings=(*expected.findings, Finding("note", told)))
    spent = check_budget(compiled, dimension=model.parameters if model else None)
    if output:
        rows = {"job": compiled.job.name, "planDigest": compiled.digest, "rounds": compiled.rounds}
        size = {to_camel(name): value for name, value in asdict(model).items()} if model else None
        privacy = {"privacy": spent.document()} if spent else {}
        write_document(rows | {"model": size} | asdict(expected) | privacy, output)
    else:
        show(compiled, model, expected, spent)


def measured(plan: Plan, program: Path, data: str | None) -> Model:
    """The size of the model that a worker process makes."""
    from job_generator.forecast import Model

    row = first_model(plan, program, data)
    return Model(
        arrays=row["arrays"],
        parameters=row["parameters"],
        nbytes=row["nbytes"],
        update_nbytes=row["updateNbytes"],
    )


def first_model(plan: Plan, program: Path, data: str | None) -> dict[str, Any]:
    """Let a worker process make the first model, and say what it is; where it cannot, this ends with its words."""
    from job_generator.local.preflight import check_data, check_framework, data_path

    check_framework(plan.program.framework)
    check_data(data, 1)
    path = inherited(plan)
    command = [sys.executable, "-m", "fl_worker", "init", "--plan", path, "--program", str(program)]
    command += ["--data", str(data_path(data, 0))] if data else []
    done = subprocess.run(command, capture_output=True, text=True, check=False, pass_fds=[_number(path)])
    if done.returncode in PERMANENT_EXIT_CODES:
        click.echo(done.stderr.rstrip(), err=True)
        raise SystemExit(done.returncode)
    if done.returncode:
        raise ProgramError(f"the program's first model could not be made:\n{done.stderr.strip()}")
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def misfit(stored: StoredModel, plan: Plan, program: Path, data: str | None) -> str:
    """How these arrays differ from those of the program, in whatever order, as a worker process finds; else nothing."""
    from fl_core.weights import Manifest

    wanted = Manifest.from_json(first_model(plan, program, data)["manifest"])
    return wanted.difference(Manifest.of(wanted.ordered(stored.arrays))) or ""


def check_beginning(job: FLJob, plan: Plan, program: Path, data: str | None) -> None:
    """Refuse a model to begin with that is here and does not fit the program."""
    from fl_core.errors import MismatchError
    from job_generator.initial import FIELD, opened

    stored = opened(job)
    if stored is not None and (different := misfit(stored, plan, program, data)):
        raise MismatchError(f"{FIELD}.uri: {stored.path} does not fit this program: {different}")


def machine() -> Machine:
    """What this machine has free."""
    from job_generator.forecast import Machine

    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        rows = dict(line.split(":") for line in meminfo.read_text().splitlines())
        free = int(rows["MemAvailable"].split()[0]) << 10
    return Machine(memory_free=free, cores=os.cpu_count() or 1)


def _number(path: str) -> int:
    return int(path.rpartition("/")[2])
