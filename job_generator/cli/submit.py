"""`fl-submit submit`: the job and its program on a cluster."""

from __future__ import annotations

import click

from job_generator.cli.check import checked
from job_generator.cli.files import JobFiles, job_files
from job_generator.cluster.options import Where, cluster_options
from job_generator.local.documents import document_option, write_document


@click.command()
@job_files
@cluster_options
@click.option("--dry-run", is_flag=True, help="Let the API server check everything, and keep nothing.")
@click.option("--watch", is_flag=True, help="Watch the job until it is over, and end as it does.")
@document_option
def submit(*, given: JobFiles, where: Where, dry_run: bool, watch: bool, output: str | None) -> None:
    """Submit a job to a cluster: checked, and its program packed into a ConfigMap beside it.

    The files win over what other hands changed in the job. The program is known by its digest, so that each
    worker checks it before the first import.

    \b
    Examples:
      fl-submit submit job.yaml --dry-run
      fl-submit submit job.yaml -n research --watch
    """
    from job_generator.cluster.submission import namespace_of, prepare
    from job_generator.cluster.submission import submit as send

    job = checked(given)
    cluster = where.connect()
    cluster.namespace = namespace_of(job, asked=where.namespace, usual=cluster.namespace)
    what = prepare(job, given.program, namespace=cluster.namespace)
    stored = send(cluster, what, dry_run=dry_run)
    name = job.metadata.name
    if output and not watch:
        write_document({"created": what.created, "dryRun": dry_run, "job": stored}, output)
        return
    done = "would be applied" if dry_run else "applied"
    for one in what.created:
        click.echo(f"{one} {done} in namespace {cluster.namespace}", err=output is not None)
    if watch and not dry_run:
        from job_generator.cli.watch import follow

        raise SystemExit(follow(cluster, name, plain=False, output=output))
    if not dry_run:
        here = Where(where.kubeconfig, where.context, cluster.namespace).words
        click.echo(f"\nNext:\n  fl-submit watch {name}{here}\n  fl-submit model {name}{here} -o {name}.npz")
