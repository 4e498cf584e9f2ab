"""`fl-submit status`: where one run stands, from its folder alone, or one job, from its cluster."""

from __future__ import annotations

from pathlib import Path

import click

from job_generator.cluster.options import Where, cluster_options, existing_folder, is_run, runs
from job_generator.local.documents import document_option, write_document

COLOURS = {"Complete": "green", "Running": "cyan", "Failed": "red"}


@click.command()
@click.argument("what", metavar="JOB|FOLDER", shell_complete=runs)
@cluster_options
@document_option
def status(what: str, *, where: Where, output: str | None) -> None:
    """Show where a run stands, by its folder, or a job on a cluster, by its name.

    \b
    Examples:
      fl-submit status fl-runs/digits-20260101-120000
      fl-submit status digits -n research
    """
    if is_run(what):
        _of_run(existing_folder(what), output)
    else:
        _of_job(where, what, output)


def _of_job(where: Where, name: str, output: str | None) -> None:
    from job_generator.cluster.jobs import conditions, display, read

    job = read(where.connect(name), name)
    if output:
        write_document({"name": name, **job.get("status", {})}, output)
        return
    shown = display(job)
    columns = [shown.get(one, "-") for one in ("round", "cohort", "metric")]
    spent = f", epsilon {shown['epsilon']}" if "epsilon" in shown else ""
    click.echo(f"{shown['state']}  {name}: round {columns[0]}, cohort {columns[1]}, {columns[2]}{spent}")
    for one in conditions(job).values():
        click.echo(
            f"  {one['type']:<12} {one['status']:<8} {one['reason']}  {one.get('message', '')}".rstrip()
        )


def _of_run(folder: Path, output: str | None) -> None:
    from rich.console import Console
    from rich.text import Text

    from job_generator.local.folder import RunFolder
    from job_generator.local.live import rounds_table
    from job_generator.local.picture import Picture
    from job_generator.local.summary import Result, closing

    result = Result.read(RunFolder(folder))
    if output:
        write_document({**result.document(), "pids": result.state.pids}, output)
        return
    console = Console(highlight=False)
    state = result.state
    done: int | str = "?" if result.lost else result.rounds[-1].round if result.rounds else 0
    where = f"  {state.job}: round {done}/{result.plan.rounds}  {state.reason}".rstrip()
    console.print(Text.assemble((state.state, COLOURS.get(state.state, "yellow")), where), soft_wrap=True)
    if state.message:
        console.print(Text(state.message), soft_wrap=True)
    if result.lost:
        console.print(Text(result.lost), soft_wrap=True)
        return
    if result.rounds:
        console.print(rounds_table(Picture(result.plan, result.rounds)))
    if state.state in {"Complete", "Stopped"}:
        console.print(closing(result), soft_wrap=True)
    elif result.onward:
        console.print(Text(result.onward), soft_wrap=True)
