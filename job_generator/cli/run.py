"""`fl-submit run`: the job as real processes on this machine."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fl_core.errors import SpecError
from job_generator.cli.check import checked
from job_generator.cli.files import FILE, JobFiles, job_files
from job_generator.local.documents import document_option

if TYPE_CHECKING:
    from fl_core.plan import Plan
    from job_generator.local.chaos_spec import Faults
    from job_generator.local.folder import RunFolder
    from job_generator.local.session import Run


plain_option = click.option("--plain", is_flag=True, help="One line per round, also in a terminal.")


@click.command()
@job_files
@click.option("--data", help="Where worker {index} finds its data, as in 'shards/{index}'.")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="The run's folder; ./fl-runs/<name>-<time> without it."
)
@click.option(
    "--resume", type=click.Path(path_type=Path, exists=True), help="Go on with the run in this folder."
)
@click.option(
    "--replay",
    "record",
    type=click.Path(path_type=Path),
    help="Train the rounds of this run's record again, with the same workers; a job file is not needed. Or those of "
    "a job on a cluster, as `fl-submit record fetch` has it; with its job file.",
)
@click.option(
    "--chaos",
    type=FILE,
    help="Faults to do to the run on purpose (YAML); a report says what it did about them.",
)
@plain_option
@click.option("--log-level", type=click.Choice(["debug", "info", "warning"]), help="How much is logged.")
@document_option
def run(  # noqa: PLR0913 - one for each option
    *,
    given: JobFiles,
    data: str | None,
    folder: Path | None,
    resume: Path | None,
    record: Path | None,
    log_level: str | None,
    chaos: Path | None,
    plain: bool,
    output: str | None,
) -> None:
    """Train a job on this machine: a server, a scheduler and a process for each worker.

    Ctrl-C ends the round and writes the model; a second Ctrl-C stops at once.

    \b
    Examples:
      fl-submit run job.yaml
      fl-submit run job.yaml --data 'shards/{index}' --output json
      fl-submit run --resume fl-runs/digits-20260101-120000
      fl-submit run --replay fl-runs/digits-20260101-120000
      fl-submit run job.yaml --chaos chaos.yaml
    """
    begun: Run | None
    if record is not None:
        if resume is not None:
            raise click.UsageError(
                "give --replay for a new run, or --resume for one that was begun, not both"
            )
        begun = followed(record, given, data=data, folder=folder, chaos=chaos)
    elif resume is None:
        begun = begin(given, data=data, folder=folder, chaos=chaos)
    elif given.files:
        raise click.UsageError("give a job file, or --resume with the folder of a run, not both")
    elif folder:
        raise click.UsageError(
            "--resume goes on in the run's own folder, and --folder is for a new run; leave it out"
        )
    else:
        begun = taken_up(resume, data=data, chaos=chaos)
    if begun is not None:
        _conduct(replace(begun, log_level=log_level), plain=plain, output=output)


def go_on(folder: Path, *, plain: bool, output: str | None) -> None:
    """Go on with the run in this folder, to its end."""
    if (again := taken_up(folder)) is not None:
        _conduct(again, plain=plain, output=output)


def taken_up(folder: Path, *, data: str | None = None, chaos: Path | None = None) -> Run | None:
    """The run in this folder, to go on with; None, and says so, where it is complete."""
    from job_generator.local.folder import RunFolder
    from job_generator.local.recovered import bring_back

    run = RunFolder(folder)
    again = resumed(run, data=data, chaos=chaos)
    if again is None:
        back = bring_back(run, run.state(), say=lambda told: click.echo(told, err=True))
        here = ", and its storage is here again" if back else ""
        click.echo(f"{folder} is complete{here}; see: fl-submit status {folder}")
    return again


def _conduct(begun: Run, *, plain: bool = False, output: str | None) -> None:
    from fl_core.process import leave
    from job_generator.local.commands import LocalCommands
    from job_generator.local.conduct import Presentation, conduct
    from job_generator.local.preflight import shared_data

    if notice := shared_data(begun.data, begun.plan.workers):
        click.echo(notice, err=True)
    leave(conduct(begun, Presentation(plain=plain, output=output), LocalCommands))


def begin(given: JobFiles, *, data: str | None, folder: Path | None, chaos: Path | None = None) -> Run:
    """Compile the job under a fresh uid, check what it needs, and make its run folder."""
    import yaml

    from job_generator.aside import for_this_machine, notice
    from job_generator.cli.plan import check_beginning
    from job_generator.compiler import compile_job
    from job_generator.forecast import EQUAL
    from job_generator.initial import located
    from job_generator.local.conduct import check
    from job_generator.local.session import Run
    from job_generator.program import sealed

    whole = checked(given)
    if aside := notice(whole):
        click.echo(aside, err=True)
    here = located(for_this_machine(whole), given.program)
    job = sealed(here, given.program, uid=str(uuid.uuid4()))
    plan = compile_job(job)
    where = fresh(folder, plan.job.name)
    initial = job.spec.initial_model
    prepared = Run(
        where,
        plan,
        given.program,
        _absolute(data),
        job.spec.workers.restarts_per_worker,
        files=tuple(str(file.absolute()) for file in given.files),
        initial_model=initial.uri if initial else None,
        store=job.spec.server.storage.uri,
        replicas=job.spec.workers.replicas if job.spec.workers.max_replicas else None,
        grace=job.spec.suspend_grace_seconds,
        faults=_faults(chaos, plan),
    )
    check(prepared)
    check_beginning(job, plan, given.program, prepared.data)
    if plan.privacy is not None:
        click.echo(f"note: {EQUAL}", err=True)
    where.prepare(job=yaml.safe_dump(job.document(), sort_keys=False, allow_unicode=True), plan=plan)
    return prepared


def fresh(folder: Path | None, name: str) -> RunFolder:
    """The folder of a new run of this job; refuses one that holds something."""
    from job_generator.local.folder import RunFolder, new_folder

    where = RunFolder(folder) if folder else new_folder(name, now=dt.datetime.now())  # noqa: DTZ005 - read by people
    if occupied := where.occupied:
        raise click.UsageError(occupied)
    return where


def followed(
    record: Path, given: JobFiles, *, data: str | None, folder: Path | None, chaos: Path | None = None
) -> Run:
    """Make the run folder of a run that follows a record."""
    from job_generator.local.conduct import check
    from job_generator.local.replay import following, source
    from job_generator.local.session import Run

    of = source(record, program=given.program if given.files else None, data=_absolute(data))
    for note in of.notes:
        click.echo(f"note: {note}", err=True)
    plan = following(of)
    where = fresh(folder, plan.job.name)
    state = of.state
    prepared = Run(
        where,
        plan,
        of.program,
        of.data,
        state.restarts,
        files=state.files,
        initial_model=state.initial_model or beginning(given, plan),
        parent=state.parent,
        words=state.words,
        grace=state.grace,
        threads=state.threads,
        faults=_faults(chaos, plan),
    )
    check(prepared)
    where.prepare(job=of.job, plan=plan)
    of.write(where.replay)
    return prepared


def beginning(given: JobFiles, plan: Plan) -> str | None:
    """The file that a job on a cluster began with, as the job file here names a copy; refuses another file."""
    from job_generator.aside import for_this_machine
    from job_generator.initial import FIELD, located

    if plan.initial_model is None:
        return None
    here, wanted = (
        located(for_this_machine(given.load()), given.program).spec.initial_model,
        plan.initial_model,
    )
    if here is None:
        raise SpecError(
            f"{FIELD}: the recorded job began with a file; name a copy of it in the job file, as in "
            "-f local.yaml with spec: {initialModel: {uri: model.npz}}"
        )
    if wanted.sha256 not in {None, here.sha256}:
        raise SpecError(
            f"{FIELD}.uri: {here.uri} has the SHA-256 {here.sha256}, and the recorded job began with {wanted.sha256}; "
            "put that file there"
        )
    return here.uri


def resumed(folder: RunFolder, *, data: str | None, chaos: Path | None = None) -> Run | None:
    """Take a run up where it was left; None when it is complete."""
    from job_generator.local.conduct import check
    from job_generator.local.session import Run
    from job_generator.local.summary import Result

    folder.check_free()
    before = Result.read(folder)
    state = before.state
    if state.state == "Complete":
        return None
    again = Run(
        folder,
        before.plan,
        Path(state.program),
        _absolute(data) or state.data,
        state.restarts,
        files=state.files,
        initial_model=state.initial_model,
        store=state.store,
        parent=state.parent,
        words=state.words,
        replicas=state.replicas,
        grace=state.grace,
        threads=state.threads,
        before=before,
        faults=_faults(chaos, before.plan),
    )
    check(again)
    return again


def _faults(chaos: Path | None, plan: Plan) -> Faults | None:
    """What is to be done to the run on purpose."""
    from job_generator.local.chaos_file import load_faults

    if chaos is None:
        return None
    framework = plan.program.framework
    return load_faults(chaos, workers=plan.workers, rounds=plan.rounds, framework=framework)


def _absolute(data: str | None) -> str | None:
    return str(Path(data).absolute()) if data else None
