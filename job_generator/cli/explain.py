"""`fl-submit explain`: what is wrong with a run or a job, or what a job's file protects, in sentences."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from fl_core.errors import StorageError
from job_generator.cli.files import JobFiles
from job_generator.cluster.options import Where, cluster_options, existing_folder, is_run, runs
from job_generator.local.documents import document_option, write_document

MARKS = {"protected": "✓", "conditional": "~", "open": "✗"}


@click.command()
@click.argument("what", metavar="JOB|FOLDER", shell_complete=runs)
@click.option(
    "--security",
    is_flag=True,
    help="Read JOB as a file and say what this very job protects, against whom, and what it does not.",
)
@click.option(
    "--round",
    "number",
    type=click.IntRange(min=1),
    help="Say who was chosen in this round, who was not, late, refused, left or lost, and why; of a run's folder, too.",
)
@cluster_options
@document_option
def explain(what: str, *, security: bool, number: int | None, where: Where, output: str | None) -> None:
    """Explain where a run or a job on a cluster stands: what is wrong, who must act, and how.

    \b
    Examples:
      fl-submit explain digits
      fl-submit explain fl-runs/digits-20260101-120000
      fl-submit explain --security job.yaml
      fl-submit explain fl-runs/digits-20260101-120000 --round 7
    """
    if number is not None:
        _explain_round(what, number, where=where, output=output)
        return
    if security:
        _explain_security(Path(what), output)
        return
    told = _of_run(existing_folder(what)) if is_run(what) else _of_job(what, where)
    if output:
        write_document({"job": what, "explanation": told}, output)
    else:
        click.echo("\n".join(told))


def _of_run(folder: Path) -> list[str]:
    from job_generator.local.folder import RunFolder
    from job_generator.local.summary import Result, account

    return account(Result.read(RunFolder(folder)))


def _of_job(job: str, where: Where) -> list[str]:
    from job_generator.cluster.explanation import explain as sentences
    from job_generator.cluster.jobs import events, read

    cluster = where.connect(job)
    found = read(cluster, job)
    return sentences(found, events(cluster, found))


def _explain_round(job: str, number: int, *, where: Where, output: str | None) -> None:
    from job_generator.cli.record import kept
    from job_generator.local.rounds import story

    with kept(job, where=where, ca=None) as found:
        record = found.read()
        if record.findings:
            raise StorageError(f"the record does not hold: {record.findings[0]}; see fl-submit record verify")
        told = story(record, number, found.plan)
    if output:
        write_document({"job": job, "round": number, "explanation": told}, output)
    else:
        click.echo("\n".join(told))


def _explain_security(file: Path, output: str | None) -> None:
    from job_generator.assurance import assurance
    from job_generator.compiler import compile_job
    from job_generator.program import sealed

    if not file.is_file():
        raise click.UsageError(f"{file} is no file; with --security JOB is a job file, such as job.yaml")
    given = JobFiles((file,))
    plan = compile_job(sealed(given.load(), given.program))
    claims = assurance(plan)
    if output:
        write_document({"job": plan.job.name, "claims": [asdict(claim) for claim in claims]}, output)
        return
    for claim in claims:
        click.secho(f"{MARKS[claim.verdict]} {claim.against}", bold=True)
        click.echo(
            click.wrap_text(claim.sentence, width=100, initial_indent="    ", subsequent_indent="    ")
        )
