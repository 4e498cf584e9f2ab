"""`fl-submit try`: one worker, one round, in this very process."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import TYPE_CHECKING

import click

from job_generator.cli.files import JobFiles, job_files

if TYPE_CHECKING:
    from fl_core.plan import Plan


@click.command("try")
@job_files
@click.option(
    "--index", type=click.IntRange(min=0), default=0, show_default=True, help="Which worker to be, from 0."
)
@click.option("--data", help="Where worker {index} finds its data, as in 'shards/{index}'.")
def attempt(*, given: JobFiles, index: int, data: str | None) -> None:
    """Train one round of one worker, without server and scheduler.

    This process becomes the worker: breakpoint() works, and an exception is shown whole.

    \b
    Examples:
      fl-submit try job.yaml
      fl-submit try job.yaml --index 3 --data 'shards/{index}'
    """
    from job_generator.cli.plan import check_beginning
    from job_generator.compiler import compile_job
    from job_generator.initial import located
    from job_generator.local.preflight import check_data, check_extensions, check_framework, data_path
    from job_generator.program import sealed

    job = given.load()
    if job.spec.initial_model is not None and job.spec.initial_model.uri is not None:
        job = located(job, given.program)
    plan = compile_job(sealed(job, given.program))
    if index >= plan.workers:
        raise click.UsageError(
            f"--index {index}: the job has {plan.workers} workers; expected 0 to {plan.workers - 1}"
        )
    check_framework(plan.program.framework)
    check_extensions(plan)
    check_data(data, 1, first=index)
    check_beginning(job, plan, given.program, str(data_path(data, index)) if data else None)
    command = [sys.executable, "-m", "fl_worker", "try", "--plan", inherited(plan)]
    command += ["--program", str(given.program), "--index", str(index)]
    command += ["--data", str(data_path(data, index))] if data else []
    os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted


def inherited(plan: Plan) -> str:
    """A path to the plan that only this process and what it becomes can open; nothing stays on disk."""
    with tempfile.TemporaryFile() as file:
        file.write(plan.to_json().encode())
        file.seek(0)
        descriptor = os.dup(file.fileno())
    os.set_inheritable(descriptor, True)
    return f"/dev/fd/{descriptor}"
