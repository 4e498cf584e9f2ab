"""`fl-submit record`: what a job's record says, whether it can be believed, and the statement about it."""

from __future__ import annotations

import datetime as dt
import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from fl_core.commands import Commands
from fl_core.errors import StorageError
from job_generator.cluster.options import (
    Where,
    cluster_options,
    existing_folder,
    is_run,
    refuse_run,
    runs,
)
from job_generator.local.documents import document_option, write_document

if TYPE_CHECKING:
    from fl_core.plan import Plan
    from fl_core.record import Record
    from job_generator.local.fetched import FetchedRecord
    from job_generator.local.verification import Verdict

COMPLETE = "Complete"
WIDE = 160
"""Columns where there is no terminal: nothing is cut for a file."""

ca_option = click.option(
    "--ca",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Certificates (PEM) of the authorities to trust, instead of those that the run or the cluster names.",
)


@dataclass(frozen=True, slots=True)
class Kept:
    """A job's storage as far as it is here, its plan, whom it trusts, and how it stands."""

    storage: Path
    plan: Plan
    authorities: tuple[bytes, ...]
    state: str
    over: bool
    """Whether there must be a signature: the job has ended as jobs end, or the reader brings an authority."""

    def read(self) -> Record:
        """What its lines say."""
        from job_generator.local.verification import record_in

        return record_in(self.storage, self.plan)

    def verify(self) -> Verdict:
        """Look through it."""
        from job_generator.local.verification import verify

        return verify(self.storage, self.plan, authorities=self.authorities, over=self.over)


@click.group(cls=Commands)
def record() -> None:
    """Show, verify or export the record of a run, by its folder, or of a job on a cluster, by its name; or fetch that.

    \b
    Examples:
      fl-submit record show fl-runs/digits-20260101-120000
      fl-submit record verify fl-runs/digits-20260101-120000
      fl-submit record verify digits
      fl-submit record fetch digits
      fl-submit record export fl-runs/digits-20260101-120000
    """


@record.command()
@click.argument("what", metavar="JOB|FOLDER", shell_complete=runs)
@cluster_options
@document_option
def show(what: str, *, where: Where, output: str | None) -> None:
    """Show a table of all rounds: who took part, what came of it, and the model that was made; and the images."""
    with kept(what, where=where, ca=None) as found:
        whole = found.read()
        if whole.findings:
            click.echo(f"not to be believed: {whole.findings[0]}; see fl-submit record verify", err=True)
        rows = whole.rows()
    if output:
        write_document(rows, output)
        return
    from rich.console import Console

    from fl_core.images import used
    from fl_core.record import written
    from job_generator.local.record import ClosedRound, images_table, record_table

    closed = [ClosedRound.from_json(written(row).decode()) for row in rows]
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(record_table(closed))
    if images := used(rows):
        console.print(images_table(images))


@record.command()
@click.argument("what", metavar="JOB|FOLDER", shell_complete=runs)
@cluster_options
@ca_option
@document_option
def verify(what: str, *, where: Where, ca: Path | None, output: str | None) -> None:
    """Find every line that was changed, removed or moved, a false signature, and models that no round made.

    Ends with 74 if anything is wrong.

    \b
    Example:
      fl-submit record verify digits -n research --ca ca.pem
    """
    with kept(what, where=where, ca=ca) as found:
        verdict = found.verify()
    if output:
        write_document(verdict.document(), output)
    else:
        for note in verdict.notes:
            click.echo(f"note: {note}", err=True)
        if not verdict.findings:
            click.echo(_good(verdict))
    if verdict.findings:
        raise StorageError(f"{what} has a record that does not hold:\n" + "\n".join(_named(verdict)))


@record.command()
@click.argument("what", metavar="JOB|FOLDER", shell_complete=runs)
@cluster_options
@ca_option
@click.option("-o", "--to", "target", type=click.Path(path_type=Path, dir_okay=False), help="The file.")
def export(what: str, *, where: Where, ca: Path | None, target: Path | None) -> None:
    """Write an in-toto statement about the final model and the record, for other tools.

    It is in the envelope (DSSE) that the server has signed; of a job that has not ended, it is a bare statement.

    \b
    Example:
      fl-submit record export fl-runs/digits-20260101-120000 -o digits.intoto.json
    """
    with kept(what, where=where, ca=ca) as found:
        verdict = found.verify()
        if verdict.findings:
            raise StorageError(f"{what} has a record that does not hold:\n" + "\n".join(_named(verdict)))
        from job_generator.local.verification import envelope_in, unsigned

        envelope = envelope_in(found.storage)
        written = envelope or unsigned(verdict, found.plan, found.storage, state=found.state)
    if envelope is None:
        click.echo(f"{what} is {found.state} and not signed: this is a bare statement", err=True)
    text = json.dumps(written, indent=2) + "\n"
    if target is None:
        click.echo(text, nl=False)
        return
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{target} cannot be written: {error.strerror}") from error
    click.echo(f"{target}: about {len(verdict.rounds)} rounds of {found.plan.job.name}")


@record.command()
@click.argument("job")
@cluster_options
@click.option(
    "-o", "--to", "target", type=click.Path(path_type=Path), help="The folder; JOB-record without it."
)
def fetch(job: str, *, where: Where, target: Path | None) -> None:
    """Copy the record of a job on a cluster, its plan and the job into a folder, to keep or to replay it here.

    \b
    Examples:
      fl-submit record fetch digits -n research
      fl-submit run job.yaml --replay digits-record
    """
    from job_generator.local.fetched import FetchedRecord, Origin

    refuse_run(job, where, instead="its record is in it: fl-submit record verify {run}")
    folder = FetchedRecord(target or Path(f"{job}-record"))
    if occupied := folder.occupied:
        raise click.UsageError(occupied)
    with _on_cluster(job, where) as found:
        now = dt.datetime.now(dt.UTC)
        origin = Origin(job=job, namespace=found.plan.job.namespace, state=found.state, fetched=now)
        folder.write(origin, found.job, found.plan, authority=found.authority, storage=found.storage)
    path = shlex.quote(str(folder.path))
    click.echo(
        f"{folder.path}: the record of {job}, which is {found.state}; "
        f"fl-submit record verify {path} checks it, fl-submit run JOBFILE --replay {path} trains it again"
    )


@contextmanager
def kept(what: str, *, where: Where, ca: Path | None) -> Iterator[Kept]:
    """A run's storage, a record that was fetched, or a copy of one on a cluster, which is gone when this is left."""
    from fl_core.seals import read_authorities
    from job_generator.local.fetched import FetchedRecord

    fetched = FetchedRecord(Path(what))
    if fetched.is_there:
        yield _here(fetched, ca)
        return
    if is_run(what):
        from fl_core.plan import Plan
        from job_generator.cluster.reader import RECORD
        from job_generator.local.folder import RunFolder
        from job_generator.local.recovered import storage_of

        run = RunFolder(existing_folder(what))
        trusted = read_authorities(ca or run.authorities)
        state = run.state()
        over = state.exit_code == 0 or ca is not None
        with storage_of(run, state, only=RECORD, say=lambda told: click.echo(told, err=True)) as storage:
            yield Kept(storage, Plan.read(run.plan), tuple(trusted), state.state, over)
        return
    with _on_cluster(what, where) as found:
        trusted = read_authorities(ca) if ca else [found.authority.encode()]
        over = found.state == COMPLETE or ca is not None
        yield Kept(found.storage, found.plan, tuple(trusted), found.state, over)


def _here(fetched: FetchedRecord, ca: Path | None) -> Kept:
    """What was fetched; it stands as the job stood then."""
    from fl_core.plan import Plan
    from fl_core.seals import read_authorities

    folder, state = fetched.folder, fetched.origin.state
    trusted = read_authorities(ca or folder.authorities)
    over = state == COMPLETE or ca is not None
    return Kept(folder.storage, Plan.read(folder.plan), tuple(trusted), state, over)


@dataclass(frozen=True, slots=True)
class Remote:
    """A job on a cluster: the FLJob, its plan, the authority (PEM) of its pods, a copy of its record, how it stands."""

    job: dict[str, Any]
    plan: Plan
    authority: str
    storage: Path
    state: str


@contextmanager
def _on_cluster(name: str, where: Where) -> Iterator[Remote]:
    """A job, and a copy of its record that is gone when this is left."""
    from job_generator.cluster.jobs import display, read
    from job_generator.cluster.reader import fetch_record
    from job_generator.cluster.sites import configuration

    cluster = where.connect(name)
    job = read(cluster, name)
    plan, trust = configuration(cluster, job)
    with TemporaryDirectory(prefix="fljob-") as scratch:
        fetch_record(cluster, job, Path(scratch), say=lambda told: click.echo(told, err=True))
        yield Remote(job, plan, trust["ca.pem"], Path(scratch), str(display(job)["state"]))


def _good(verdict: Verdict) -> str:
    record = verdict.record
    lines = f"{record.head.lines} lines of {len(verdict.rounds)} rounds are one chain"
    if verdict.signed is None:
        return f"{lines}, not signed yet"
    said = verdict.signed["predicate"]
    return f"{lines}, signed by the server of job {said['job']['uid']} at {said['at']} ({said['ending']})"


def _named(verdict: Verdict) -> list[str]:
    return [f"  {finding}" for finding in verdict.findings]
