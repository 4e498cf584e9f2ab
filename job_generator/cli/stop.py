"""`fl-submit stop`: a job on a cluster ends early, with a model."""

from __future__ import annotations

import click

from job_generator.cluster.options import Where, cluster_options
from job_generator.local.documents import document_option, write_sentence


@click.command()
@click.argument("job")
@cluster_options
@document_option
def stop(job: str, *, where: Where, output: str | None) -> None:
    """Stop a job on a cluster with the round that is open, so that a final model is written.

    It lowers spec.rounds. To go on later, suspend the job instead.

    \b
    Example:
      fl-submit stop digits
    """
    from job_generator.cluster import steering

    write_sentence(job, steering.stop(where.connect(), job), output)
