"""`fl-submit scale`: a run or a job on a cluster has more or fewer workers from its next round on."""

from __future__ import annotations

import click

from job_generator.cluster.options import Where, cluster_options, existing_folder, is_run
from job_generator.local.documents import document_option, write_sentence


@click.command()
@click.argument("what", metavar="JOB|FOLDER")
@click.option(
    "--workers", type=click.IntRange(min=1), required=True, help="How many workers; sites not counted."
)
@cluster_options
@document_option
def scale(what: str, *, workers: int, where: Where, output: str | None) -> None:
    """Scale a run, by its folder, or a job on a cluster, by its name, while it goes on.

    The job must have spec.workers.maxReplicas, which is the most; the fewest is what a round asks.

    \b
    Examples:
      fl-submit scale fl-runs/digits-20260101-120000 --workers 8
      fl-submit scale digits --workers 8
    """
    if is_run(what):
        from job_generator.local import steering as here
        from job_generator.local.folder import RunFolder

        write_sentence(what, here.scale(RunFolder(existing_folder(what)), workers), output)
        return
    from job_generator.cluster import steering

    write_sentence(what, steering.scale(where.connect(what), what, workers), output)
