"""`fl-submit fork`: a new job that goes on from a round of another one."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fl_core.errors import FLJobError
from job_generator.cli.check import secrecy_of
from job_generator.cli.run import fresh, plain_option
from job_generator.cluster.options import Where, cluster_options, existing_folder, is_run, runs
from job_generator.local.documents import document_option

if TYPE_CHECKING:
    from fl_core.plan import Plan
    from job_generator.local.ancestry import Ancestor
    from job_generator.local.session import Run
    from job_generator.spec import FLJob


@dataclass(frozen=True, slots=True)
class Wish:
    """What the fork is to be: from which round, with which changes, under which name."""

    round: int
    changes: tuple[str, ...]
    name: str | None

    @property
    def words(self) -> tuple[str, ...]:
        """What was typed beside the parent and the round, to be typed again."""
        options = [("--set", change) for change in self.changes]
        options += [("--name", self.name)] if self.name else []
        return tuple(word for option in options for word in option)


def fork_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what a fork is to be; it takes that as `wish`."""

    @wraps(command)
    def with_wish(
        *arguments: Any,  # noqa: ANN401 - click's
        number: int,
        changes: tuple[str, ...],
        name: str | None,
        **options: Any,  # noqa: ANN401 - click's
    ) -> Any:  # noqa: ANN401 - click's
        return command(*arguments, wish=Wish(number, changes, name), **options)

    fields = click.option(
        "--set",
        "changes",
        multiple=True,
        metavar="PATH=VALUE",
        help="Change a field of the spec; the value is YAML, null removes. May be repeated.",
    )
    after, called = click.IntRange(min=0), "The new job's name; a run keeps its own, a cluster needs another."
    named = click.option("--name", help=called)(with_wish)
    return click.option(
        "--from-round", "number", type=after, required=True, help="The last round that is taken over."
    )(fields(named))


@click.command()
@click.argument("what", metavar="RUN|JOB", shell_complete=runs)
@fork_options
@click.option("--data", help="Where worker {index} finds its data; as in the run without it.")
@click.option("--folder", type=click.Path(path_type=Path), help="The new run's folder.")
@click.option("--dry-run", is_flag=True, help="Check everything, print the new job, and start nothing.")
@plain_option
@cluster_options
@document_option
def fork(  # noqa: PLR0913 - one for each option
    what: str,
    *,
    wish: Wish,
    data: str | None,
    folder: Path | None,
    dry_run: bool,
    plain: bool,
    where: Where,
    output: str | None,
) -> None:
    """Start a new job that goes on from a round of a run, by its folder, or of a job on a cluster, by its name.

    Rounds are counted on: spec.rounds is the number of all of them, those before the fork included. The model is
    taken over, and what strategy, stages and secure sums remember at the server where they are the same; the privacy
    that was spent counts from the start. The parent stays as it is.

    \b
    Examples:
      fl-submit fork fl-runs/digits-20260101-120000 --from-round 12 --set rounds=30
      fl-submit fork fl-runs/digits-20260101-120000 --from-round 12 --set 'strategy={name: fedprox, mu: 0.1}'
      fl-submit fork digits --from-round 12 --set rounds=30 --name digits-2 --dry-run
    """
    if not is_run(what):
        _of_job(where, what, wish, dry_run=dry_run, output=output)
        return
    from job_generator.local.ancestry import Ancestor
    from job_generator.local.folder import RunFolder
    from job_generator.local.recovered import bring_back
    from job_generator.local.summary import Result

    parent = Result.read(RunFolder(existing_folder(what)))
    if bring_back(parent.folder, parent.state, say=lambda told: click.echo(told, err=True)):
        parent = Result.read(parent.folder)
    ancestor = Ancestor(parent.folder, wish.round, parent.plan)
    words = (*wish.words, "--data", str(Path(data).absolute())) if data else wish.words
    program, data = Path(parent.state.program), _absolute(data) or parent.state.data
    job, plan = planned(ancestor, wish, program)
    _check_arrays(ancestor, plan, program, data)
    _say_anew(ancestor.plan, plan)
    if told := secrecy_of(job):
        click.echo(f"note: {told}", err=True)
    if dry_run:
        click.echo(_text(job), nl=False)
        return
    run = begun(ancestor, job, program=program, data=data, folder=folder)
    _conduct(replace(run, words=words), plain=plain, output=output)


def planned(ancestor: Ancestor, wish: Wish, program: Path) -> tuple[FLJob, Plan]:
    """The new job, which begins with the parent's checkpoint where that lies, and its plan; refuses what cannot be."""
    from fl_core.lineage import check_fork, makers
    from job_generator.amend import fork_of
    from job_generator.aside import for_this_machine
    from job_generator.compiler import compile_job
    from job_generator.initial import located
    from job_generator.program import sealed
    from job_generator.source import read

    ancestor.stored()
    before = read(ancestor.run.job).value
    before["spec"]["program"].pop("sha256", None)
    origin = {"uri": str(ancestor.checkpoint.absolute()), "round": ancestor.round}
    job = located(for_this_machine(fork_of(before, wish.changes, name=wish.name, origin=origin)), program)
    job = sealed(job, program, uid=str(uuid.uuid4()))
    plan = compile_job(job)
    check_fork(makers(ancestor.plan), plan)
    return job, plan


def begun(ancestor: Ancestor, job: FLJob, *, program: Path, data: str | None, folder: Path | None) -> Run:
    """Make the new run's folder, with its own copy of what it goes on from."""
    from job_generator.compiler import compile_job
    from job_generator.local.conduct import check
    from job_generator.local.session import Run

    where = fresh(folder, job.metadata.name)
    plan, workers = compile_job(job), job.spec.workers
    run = Run(
        where,
        plan,
        program,
        data,
        workers.restarts_per_worker,
        replicas=workers.replicas if workers.max_replicas else None,
        store=job.spec.server.storage.uri,
        parent=ancestor.told,
        grace=job.spec.suspend_grace_seconds,
    )
    check(run)
    where.prepare(job=_text(job), plan=plan)
    try:
        taken = str(ancestor.hand_over(where))
        where.write_job(_text(_from(job, taken)))
    except FLJobError:
        shutil.rmtree(where.path)
        raise
    return replace(run, initial_model=taken)


def _check_arrays(ancestor: Ancestor, plan: Plan, program: Path, data: str | None) -> None:
    """Refuse a program whose arrays the checkpoint does not fit; a worker process makes its first model for that."""
    from fl_core.errors import MismatchError
    from job_generator.cli.plan import misfit

    if different := misfit(ancestor.stored(), plan, program, data):
        raise MismatchError(
            f"spec.program: the model of round {ancestor.round} does not fit this program: {different}; "
            "a fork keeps the model's shape, so put the program back, or start a new run"
        )


def _say_anew(parent: Plan, plan: Plan) -> None:
    from fl_core.lineage import MEMORIES, begun_anew, makers

    for name in begun_anew(makers(parent), plan):
        click.echo(
            f"note: what {MEMORIES[name]} remembers begins anew, as it is another one in the fork", err=True
        )
    if parent.program.sha256 != plan.program.sha256:
        click.echo("note: the program has changed since; the fork trains with the new one", err=True)


def _conduct(run: Run, *, plain: bool, output: str | None) -> None:
    from fl_core.process import leave
    from job_generator.local.commands import LocalCommands
    from job_generator.local.conduct import Presentation, conduct

    parent = run.parent.folder if run.parent else ""
    click.echo(f"{run.folder.path} goes on from round {run.plan.done} of {parent}", err=True)
    leave(conduct(run, Presentation(plain=plain, output=output), LocalCommands))


def _of_job(where: Where, parent: str, wish: Wish, *, dry_run: bool, output: str | None) -> None:
    """Apply the new FLJob, or say what would be applied."""
    from job_generator.cluster.forking import forked, pinned
    from job_generator.cluster.jobs import read
    from job_generator.cluster.submission import Submission
    from job_generator.cluster.submission import submit as send
    from job_generator.local.documents import write_document

    cluster = where.connect(parent)
    before = read(cluster, parent)
    if wish.name is None or wish.name == parent:
        raise click.UsageError(f"a fork of {parent} on a cluster needs a name of its own: --name {parent}-2")
    wished = forked(before, name=wish.name, round=wish.round, changes=wish.changes)
    job = pinned(cluster, before, wished, say=lambda told: click.echo(told, err=True))
    document = job.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    if told := secrecy_of(job):
        click.echo(f"note: {told}", err=True)
    stored = send(cluster, Submission(document), dry_run=dry_run)
    if output or dry_run:
        write_document(stored if output else document, output or "yaml")
        return
    click.echo(f"fljob/{wish.name} goes on from round {wish.round} of {parent}")
    click.echo(f"\nNext:\n  fl-submit watch {wish.name}{where.words}")


def _from(job: FLJob, taken: str) -> FLJob:
    """The job with the checkpoint in its own folder."""
    given = job.spec.initial_model
    placed = given.model_copy(update={"uri": taken}) if given else None
    return job.model_copy(update={"spec": job.spec.model_copy(update={"initial_model": placed})})


def _text(job: FLJob) -> str:
    import yaml

    return yaml.safe_dump(job.document(), sort_keys=False, allow_unicode=True)


def _absolute(data: str | None) -> str | None:
    return str(Path(data).absolute()) if data else None
