"""`fl-submit resume`: a suspended job on a cluster goes on."""

from __future__ import annotations

import click

from job_generator.cluster.options import Where, cluster_options
from job_generator.local.documents import document_option, write_sentence


@click.command()
@click.argument("job")
@cluster_options
@document_option
def resume(job: str, *, where: Where, output: str | None) -> None:
    """Resume a job on a cluster that was suspended.

    It goes on after its last checkpoint.

    \b
    Example:
      fl-submit resume digits
    """
    from job_generator.cluster import steering

    write_sentence(job, steering.suspend(where.connect(), job, hold=False), output)
