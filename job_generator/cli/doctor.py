"""`fl-submit doctor`: whether a cluster can run FLJobs for you."""

from __future__ import annotations

import click

from fl_core.errors import JobError
from job_generator.cluster.options import Where, cluster_options
from job_generator.local.documents import document_option, write_document

MARKS = {True: "ok", False: "no", None: "??"}


@click.command()
@cluster_options
@document_option
def doctor(*, where: Where, output: str | None) -> None:
    """Look at a cluster: its version, the operator, your rights, storage, images.

    The exit code is 64 when something has to be done.

    \b
    Example:
      fl-submit doctor -n research
    """
    from job_generator.cluster.diagnosis import diagnose

    findings = list(diagnose(where.connect()))
    if output:
        write_document([one.document() for one in findings], output)
    else:
        for one in findings:
            advice = f"; {one.advice}" if one.advice else ""
            click.echo(f"{MARKS[one.good]}  {one.what:<10}  {one.told}{advice}")
    if any(one.good is False for one in findings):
        raise SystemExit(JobError.exit_code)
