"""`fl-submit explain`: what is wrong with a job on a cluster, or what a job's file protects, in sentences."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from job_generator.cli.files import JobFiles
from job_generator.cluster.options import Where, cluster_options
from job_generator.local.documents import document_option, write_document

MARKS = {"protected": "✓", "conditional": "~", "open": "✗"}


@click.command()
@click.argument("job")
@click.option(
    "--security",
    is_flag=True,
    help="Read JOB as a file and say what this very job protects, against whom, and what it does not.",
)
@cluster_options
@document_option
def explain(job: str, *, security: bool, where: Where, output: str | None) -> None:
    """Explain where a job on a cluster stands: what is wrong, who must act, and how.

    \b
    Examples:
      fl-submit explain digits
      fl-submit explain --security job.yaml
    """
    if security:
        _explain_security(Path(job), output)
        return
    from job_generator.cluster.explanation import explain as sentences
    from job_generator.cluster.jobs import events, read

    cluster = where.connect()
    found = read(cluster, job)
    told = sentences(found, events(cluster, found))
    if output:
        write_document({"job": job, "explanation": told}, output)
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
