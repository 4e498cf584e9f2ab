"""`fl-submit watch`: a job on a cluster as it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from job_generator.cluster.options import Where, cluster_options, refuse_run
from job_generator.local.documents import document_option, write_document

if TYPE_CHECKING:
    from job_generator.cluster.connection import Cluster

INTERRUPTED = 130


@click.command()
@click.argument("job")
@cluster_options
@click.option("--plain", is_flag=True, help="One line per round, also in a terminal.")
@document_option
def watch(job: str, *, where: Where, plain: bool, output: str | None) -> None:
    """Watch a job on a cluster until it is over; the exit code is the job's own.

    Ctrl-C ends the watching; the job goes on.

    \b
    Examples:
      fl-submit watch digits
      fl-submit watch digits -n research --plain
    """
    instead = "it is shown where it was started, and where it stands by: fl-submit status {run}"
    refuse_run(job, where, instead=instead)
    raise SystemExit(follow(where.connect(job), job, plain=plain, output=output))


def follow(cluster: Cluster, name: str, *, plain: bool, output: str | None) -> int:
    """Show the job until it ends; its exit code."""
    from job_generator.cluster.changes import Changes
    from job_generator.cluster.jobs import exit_code, read
    from job_generator.cluster.progress import conclusion, plan_of, show
    from job_generator.local.conduct import Presentation
    from job_generator.local.live import LiveDisplay, PlainDisplay
    from job_generator.local.picture import Picture

    console = Presentation(plain=plain, output=output).console
    first = read(cluster, name)
    display = LiveDisplay if console.is_terminal and not plain else PlainDisplay
    try:
        with display(Picture(plan_of(first)), console) as shown:
            job = show(Changes(cluster, first, say=shown.say), shown)
    except KeyboardInterrupt:
        again = f"fl-submit watch {name} -n {cluster.namespace}"
        click.echo(f"\n{name} goes on. To watch it again: {again}", err=True)
        return INTERRUPTED
    code = exit_code(job) or 0
    reason, message = conclusion(job)
    if output:
        write_document(
            {"job": name, "exitCode": code, "reason": reason, "status": job.get("status", {})}, output
        )
    elif code:
        click.echo(
            f"✗ {name}: {reason}: {message}\nWhat to do: fl-submit explain {name} -n {cluster.namespace}"
        )
    else:
        click.echo(f"✓ {name}: {message}")
    return code
