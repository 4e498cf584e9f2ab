"""`fl-submit resume`: a suspended job on a cluster goes on."""

from __future__ import annotations

import click

from job_generator.cluster.options import Where, cluster_options


@click.command()
@click.argument("job")
@cluster_options
def resume(job: str, *, where: Where) -> None:
    """Resume a job on a cluster that was suspended.

    It goes on after its last checkpoint.

    \b
    Example:
      fl-submit resume digits
    """
    from job_generator.cluster import steering

    click.echo(steering.suspend(where.connect(), job, hold=False))
