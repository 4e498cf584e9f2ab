"""`fl-submit explain`: what is wrong with a job on a cluster, in sentences."""

from __future__ import annotations

import click

from job_generator.cluster.options import Where, cluster_options
from job_generator.local.documents import document_option, write_document


@click.command()
@click.argument("job")
@cluster_options
@document_option
def explain(job: str, *, where: Where, output: str | None) -> None:
    """Explain where a job on a cluster stands: what is wrong, who must act, and how.

    \b
    Example:
      fl-submit explain digits
    """
    from job_generator.cluster.explanation import explain as sentences
    from job_generator.cluster.jobs import events, read

    cluster = where.connect()
    found = read(cluster, job)
    told = sentences(found, events(cluster, found))
    if output:
        write_document({"job": job, "explanation": told}, output)
    else:
        click.echo("\n".join(told))
