"""`fl-submit stop`: a run or a job on a cluster ends early, with a model."""

from __future__ import annotations

import click

from job_generator.cluster.options import Where, cluster_options, existing_folder, is_run, runs
from job_generator.local.documents import document_option, write_sentence


@click.command()
@click.argument("what", metavar="JOB|FOLDER", shell_complete=runs)
@cluster_options
@document_option
def stop(what: str, *, where: Where, output: str | None) -> None:
    """Stop a run, by its folder, or a job on a cluster, by its name, with the round that is open.

    A final model is written; a run whose first round has not begun ends at once, without one. On a cluster it lowers
    spec.rounds, for good; to go on later, suspend the job instead.

    \b
    Examples:
      fl-submit stop fl-runs/digits-20260101-120000
      fl-submit stop digits
    """
    if is_run(what):
        from job_generator.local import steering as here
        from job_generator.local.folder import RunFolder

        write_sentence(what, here.stop(RunFolder(existing_folder(what))), output)
        return
    from job_generator.cluster import steering

    write_sentence(what, steering.stop(where.connect(what), what), output)
