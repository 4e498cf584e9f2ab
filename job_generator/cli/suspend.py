"""`fl-submit suspend`: a job on a cluster without pods for a while."""

from __future__ import annotations

import click

from job_generator.cluster.options import Where, cluster_options
from job_generator.local.documents import document_option, write_sentence


@click.command()
@click.argument("job")
@cluster_options
@document_option
def suspend(job: str, *, where: Where, output: str | None) -> None:
    """Suspend a job on a cluster: its pods go, what was committed stays.

    An open round has spec.suspendGraceSeconds to end; else it is begun again later.

    \b
    Example:
      fl-submit suspend digits
    """
    from job_generator.cluster import steering

    write_sentence(job, steering.suspend(where.connect(), job, hold=True), output)
