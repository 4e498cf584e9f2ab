"""`fl-submit run`: the job as real processes on this machine."""

from __future__ import annotations

import datetime as dt
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

import click
import yaml
from job_generator.compiler import compile_job
from job_generator.spec import FLJob, load_job

from fl_core.errors import SpecError
from fl_core.plan import Plan
from job_generator.local.commands import LocalCommands
from job_generator.local.conduct import Presentation, check, conduct
from job_generator.local.documents import document_option
from job_generator.local.folder import RunFolder, new_folder
from job_generator.local.preflight import program_digest
from job_generator.local.session import Run

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.argument("job", type=FILE, required=False)
@click.option(
    "-f", "--file", "files", type=FILE, multiple=True, help="A file merged over the job; may be repeated."
)
@click.option("--data", help="Where worker {index} finds its data, as in 'shards/{index}'.")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="The run's folder; ./fl-runs/<name>-<time> without it."
)
@click.option(
    "--resume", type=click.Path(path_type=Path, exists=True), help="Go on with the run in this folder."
)
@click.option("--plain", is_flag=True, help="One line per round, also in a terminal.")
@document_option
def run(
    job: Path | None,
    files: tuple[Path, ...],
    *,
    data: str | None,
    folder: Path | None,
    resume: Path | None,
    plain: bool,
    output: str | None,
) -> None:
    r"""Train a job on this machine: a server, a scheduler and a process for each worker.

    Ctrl-C ends the round and writes the model; a second Ctrl-C stops at once.

    \b
    Examples:
      fl-submit run job.yaml
      fl-submit run job.yaml --data 'shards/{index}' --output json
      fl-submit run --resume fl-runs/digits-20260101-120000
    """
    several = [*([job] if job else []), *files]
    if bool(several) == (resume is not None):
        raise click.UsageError("give a job file, or --resume with the folder of a run")
    if resume is not None:
        begun = resumed(RunFolder(resume), data=data)
        if begun is None:
            click.echo(
                f"{resume} is complete; there is nothing to go on with. See: fl-submit status {resume}"
            )
            return
    else:
        begun = begin(several, data=data, folder=folder)
    sys.exit(conduct(begun, Presentation(plain=plain, output=output), LocalCommands))


def begin(files: Sequence[Path], *, data: str | None, folder: Path | None) -> Run:
    """Compile the job under a fresh uid, check what it needs, and make its run folder."""
    job, program = load_job(files), files[0].absolute().parent
    plan = compile_job(sealed(job, program))
    where = RunFolder(folder) if folder else new_folder(plan.job.name, now=dt.datetime.now())  # noqa: DTZ005 - read by people
    prepared = Run(where, plan, program, data, job.spec.workers.restarts_per_worker)
    check(prepared)
    document = job.model_dump(mode="json", by_alias=True, exclude_none=True)
    where.prepare(job=yaml.safe_dump(document, sort_keys=False, allow_unicode=True), plan=plan)
    return prepared


def sealed(job: FLJob, program: Path) -> FLJob:
    """Give the job a fresh uid and its program's digest; refuses another digest than the file's."""
    spec = job.spec
    digest = program_digest(program, spec.program.entrypoint.partition(":")[0])
    if spec.program.sha256 not in {None, digest}:
        raise SpecError(
            f"spec.program.sha256: {spec.program.sha256} is not the digest of the program in {program}, "
            f"which is {digest}; put the right files there, or leave the field out"
        )
    with_digest = spec.program.model_copy(update={"sha256": digest})
    metadata = job.metadata.model_copy(update={"uid": str(uuid.uuid4())})
    changed = spec.model_copy(update={"program": with_digest})
    return job.model_copy(update={"metadata": metadata, "spec": changed})


def resumed(folder: RunFolder, *, data: str | None) -> Run | None:
    """Take a run up where it was left; None when it is complete."""
    state = folder.state()
    if state.state == "Complete":
        return None
    again = Run(folder, Plan.read(folder.plan), Path(state.program), data or state.data, state.restarts)
    check(again)
    return again
