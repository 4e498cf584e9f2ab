"""`fl-submit list`: the runs on this machine, or the jobs on a cluster."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fl_core.errors import FLJobError
from job_generator.cluster.options import Where, cluster_options
from job_generator.local.documents import document_option, write_document

if TYPE_CHECKING:
    from rich.table import Table

    from job_generator.local.summary import Result


NARROWEST_RUN = 16
"""Characters, so that the widest rows still fit into 80; a longer path takes several lines."""


@click.command("list")
@click.option(
    "--runs",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder that holds the run folders; ./fl-runs without it.",
)
@click.option(
    "--cluster", is_flag=True, help="The jobs of the context's namespace instead; also by the options above."
)
@click.option("-A", "--all-namespaces", is_flag=True, help="The jobs of all namespaces.")
@cluster_options
@document_option
def list_runs(
    *, runs: Path | None, cluster: bool, all_namespaces: bool, where: Where, output: str | None
) -> None:
    """List the runs on this machine, newest first, or the jobs on a cluster.

    \b
    Examples:
      fl-submit list --output json
      fl-submit list -n research
    """
    if cluster or all_namespaces or where.given:
        _list_jobs(where, output, everywhere=all_namespaces)
    else:
        _list_runs(runs, output)


def _list_jobs(where: Where, output: str | None, *, everywhere: bool) -> None:
    from rich.console import Console

    from job_generator.cluster.connection import Request
    from job_generator.cluster.jobs import fljobs

    there = where.connect()
    found = there.send(Request("GET", fljobs(None if everywhere else there.namespace)))["items"]
    if output:
        write_document(
            [
                {"metadata": one["metadata"], "spec": one["spec"], "status": one.get("status", {})}
                for one in found
            ],
            output,
        )
    elif found:
        Console(highlight=False).print(_jobs(found, everywhere=everywhere, now=dt.datetime.now(dt.UTC)))
    else:
        place = "any namespace" if everywhere else f"namespace {there.namespace}"
        click.echo(f"There are no FLJobs in {place}; start one with: fl-submit submit job.yaml")


def _jobs(found: list[dict[str, Any]], *, everywhere: bool, now: dt.datetime) -> Table:
    from rich import box
    from rich.table import Table

    from job_generator.cluster.jobs import display

    shown = ["state", "round", "metric"]
    shown += ["epsilon"] if any("epsilon" in display(one) for one in found) else []
    titles = (["NAMESPACE"] if everywhere else []) + ["JOB", *(one.upper() for one in shown), "AGE"]
    table = Table(*titles, box=box.SIMPLE_HEAD, pad_edge=False)
    for one in found:
        meta = one["metadata"]
        table.add_row(
            *([meta["namespace"]] if everywhere else []),
            meta["name"],
            *(display(one).get(key, "-") for key in shown),
            age(now - dt.datetime.fromisoformat(meta["creationTimestamp"])),
        )
    return table


def _list_runs(runs: Path | None, output: str | None) -> None:
    from rich.console import Console

    from job_generator.local.folder import RUNS

    runs = runs or Path(RUNS)
    results = list(_readable(runs))
    if output:
        write_document([result.document() for result in results], output)
        return
    if results:
        Console(highlight=False).print(_table(results, now=dt.datetime.now(dt.UTC)))
    else:
        click.echo(f"There are no runs under {runs}; start one with: fl-submit run job.yaml")
    if _has_kubeconfig():
        click.echo(
            "note: these are the runs on this machine; jobs on a cluster: fl-submit list --cluster", err=True
        )


def _has_kubeconfig() -> bool:
    """Whether there is a file that names a cluster, which is not read."""
    named = os.environ.get("KUBECONFIG")
    files = named.split(os.pathsep) if named else [Path.home() / ".kube" / "config"]
    return any(Path(file).is_file() for file in files if file)


def _readable(runs: Path) -> Iterator[Result]:
    """The runs whose folders can be read; the others are named on standard error."""
    from job_generator.local.folder import run_folders
    from job_generator.local.summary import Result

    for folder in run_folders(runs):
        try:
            yield Result.read(folder)
        except FLJobError as error:
            click.echo(f"{folder.path} is left out: {error}", err=True)


def _table(results: list[Result], *, now: dt.datetime) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    longest = max(len(str(result.folder.path)) for result in results)
    table.add_column("RUN", overflow="fold", min_width=min(longest, NARROWEST_RUN))
    private = ["EPSILON"] if any(result.privacy for result in results) else []
    for title in ("STATE", "ROUND", "METRIC", *private, "AGE"):
        table.add_column(title, no_wrap=True)
    for result in results:
        done = "?" if result.lost else result.rounds[-1].round if result.rounds else 0
        table.add_row(
            str(result.folder.path),
            result.state.state,
            f"{done}/{result.plan.rounds}",
            _metric(result),
            *[f"{result.privacy.epsilon:.3g}" if result.privacy else "-" for _ in private],
            age(now - result.state.started),
        )
    return table


def _metric(result: Result) -> str:
    """Write the metric of the target, or the first besides the loss, or the loss; a long name is cut."""
    from job_generator.local.picture import figure, short

    closed = result.evaluated
    if closed is None:
        return "-"
    target = result.plan.target.metric if result.plan.target else ""
    name = next(iter([name for name in (target, *closed.scores) if name in closed.metrics]), "loss")
    return f"{short(name)} {figure(closed.metrics.get(name))}"


def age(passed: dt.timedelta) -> str:
    """Write an age as kubectl does: `45s`, `12m`, `3h`, `2d`."""
    seconds = int(passed.total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{max(seconds, 0)}s"
