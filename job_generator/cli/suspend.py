"""`fl-submit suspend`: a job on a cluster without pods for a while."""

from __future__ import annotations

import click

from job_generator.cluster.options import Where, cluster_options


@click.command()
@click.argument("job")
@cluster_options
def suspend(job: str, *, where: Where) -> None:
    """Suspend a job on a cluster: its pods go, what was committed stays.

    An open round has spec.suspendGraceSeconds to end; else it is begun again later.

    \b
    Example:
      fl-submit suspend digits
    """
    from job_generator.cluster import steering

    click.echo(steering.suspend(where.connect(), job, hold=True))
