"""`fl-submit suspend`: a run or a job on a cluster without processes for a while."""

from __future__ import annotations

import click

from job_generator.cluster.options import Where, cluster_options, existing_folder, is_run, runs
from job_generator.local.documents import document_option, write_sentence


@click.command()
@click.argument("what", metavar="JOB|FOLDER", shell_complete=runs)
@cluster_options
@document_option
def suspend(what: str, *, where: Where, output: str | None) -> None:
    """Suspend a run, by its folder, or a job on a cluster, by its name: its processes go, what was committed stays.

    An open round has spec.suspendGraceSeconds to end; else it is begun again later.

    \b
    Examples:
      fl-submit suspend fl-runs/digits-20260101-120000
      fl-submit suspend digits
    """
    if is_run(what):
        from job_generator.local import steering as here
        from job_generator.local.folder import RunFolder

        write_sentence(what, here.suspend(RunFolder(existing_folder(what))), output)
        return
    from job_generator.cluster import steering

    write_sentence(what, steering.suspend(where.connect(what), what, hold=True), output)
