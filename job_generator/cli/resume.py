"""`fl-submit resume`: a run that was suspended, or a job on a cluster, goes on."""

from __future__ import annotations

import click

from job_generator.cli.run import go_on, plain_option
from job_generator.cluster.options import Where, cluster_options, existing_folder, is_run, runs
from job_generator.local.documents import document_option, write_sentence


@click.command()
@click.argument("what", metavar="JOB|FOLDER", shell_complete=runs)
@plain_option
@cluster_options
@document_option
def resume(what: str, *, plain: bool, where: Where, output: str | None) -> None:
    """Resume a run, by its folder, or a job on a cluster, by its name, after its last checkpoint.

    A run goes on in this terminal, as with `fl-submit run --resume`.

    \b
    Examples:
      fl-submit resume fl-runs/digits-20260101-120000
      fl-submit resume digits
    """
    if is_run(what):
        go_on(existing_folder(what), plain=plain, output=output)
        return
    from job_generator.cluster import steering

    write_sentence(what, steering.suspend(where.connect(what), what, hold=False), output)
