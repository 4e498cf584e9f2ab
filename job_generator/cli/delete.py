"""`fl-submit delete`: a job on a cluster, and what belongs to it."""

from __future__ import annotations

import click

from job_generator.cluster.options import Where, cluster_options, refuse_run
from job_generator.local.documents import document_option, write_sentence


@click.command()
@click.argument("job")
@cluster_options
@click.option("--keep-storage", is_flag=True, help="Keep models and checkpoints, whatever the job says.")
@document_option
def delete(job: str, *, where: Where, keep_storage: bool, output: str | None) -> None:
    """Delete a job on a cluster with its pods and its program.

    Its storage is kept unless the job says spec.server.storage.onDelete: Delete.

    \b
    Examples:
      fl-submit delete digits
      fl-submit delete digits --keep-storage
    """
    from job_generator.cluster import steering

    refuse_run(job, where, instead="it is its folder and no more, so once it is over: rm -r {run}")
    write_sentence(job, steering.delete(where.connect(job), job, keep_storage=keep_storage), output)
