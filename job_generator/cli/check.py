"""`fl-submit check`: everything that can be known to be wrong before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fl_core.errors import SpecError
from job_generator.cli.files import JobFiles, job_files
from job_generator.local.documents import document_option, write_document

if TYPE_CHECKING:
    from job_generator.problems import Problem
    from job_generator.spec import FLJob


@click.command()
@job_files
@document_option
def check(*, given: JobFiles, output: str | None) -> None:
    """Find what is wrong with a job: its fields, how they fit, and its program, which is not imported.

    \b
    Examples:
      fl-submit check job.yaml
      fl-submit check job.yaml -f strategy.yaml -f cluster.yaml --output json
    """
    from job_generator.problems import InvalidJobError

    try:
        good = checked(given)
    except InvalidJobError as error:
        if output:
            write_document({"valid": False, "problems": [_row(one) for one in error.problems]}, output)
            raise SystemExit(SpecError.exit_code) from None
        raise
    notices = [told] if (told := secrecy_of(good)) else []
    if output:
        write_document({"valid": True, "problems": [], "notes": notices}, output)
        return
    click.echo(f"{good.metadata.name} is a good job: {summary(good)}.")
    for told in notices:
        click.echo(f"note: {told}", err=True)


def secrecy_of(job: FLJob) -> str:
    """A sentence where secure aggregation is off and nobody turned it off; else nothing."""
    from job_generator.secrecy import notice

    given = job.spec.secure_aggregation
    return notice(given.model_dump() if given else None, job.per_round)


def checked(given: JobFiles) -> FLJob:
    """The job, when nothing can be seen to be wrong with it."""
    from job_generator.compiler import compile_job
    from job_generator.initial import located, opened
    from job_generator.problems import InvalidJobError
    from job_generator.program import inspect

    document = given.document()
    job = document.job()
    try:
        compile_job(job)
    except InvalidJobError as error:
        raise InvalidJobError(document.placed(error.problems)) from None
    if job.spec.initial_model is not None and job.spec.initial_model.uri is not None:
        opened(located(job, given.program))
    if problems := tuple(inspect(job, given.program)):
        raise InvalidJobError(document.placed(problems))
    return job


def summary(job: FLJob) -> str:
    """One line: rounds, workers, cohort, quorum, strategy."""
    spec = job.spec
    workers = f"{job.members} worker{'s' if job.members > 1 else ''}"
    return (
        f"{spec.rounds} round{'s' if spec.rounds > 1 else ''} of {spec.strategy.name} with {workers}, "
        f"{job.per_round} in each round and at least {job.minimum}"
    )


def _row(problem: Problem) -> dict[str, str]:
    from job_generator.problems import dotted

    return {"path": dotted(problem.path), "message": problem.message, "place": problem.place}
