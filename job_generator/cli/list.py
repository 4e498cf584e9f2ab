"""`fl-submit list`: the runs on this machine."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fl_core.errors import FLJobError
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
@document_option
def list_runs(runs: Path | None, output: str | None) -> None:
    """List the runs on this machine, newest first.

    \b
    Example:
      fl-submit list --output json
    """
    from rich.console import Console

    from job_generator.local.folder import RUNS

    runs = runs or Path(RUNS)
    results = list(_readable(runs))
    if output:
        write_document([result.document() for result in results], output)
        return
    if not results:
        click.echo(f"There are no runs under {runs}; start one with: fl-submit run job.yaml")
        return
    Console(highlight=False).print(_table(results, now=dt.datetime.now(dt.UTC)))


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
    for title in ("STATE", "ROUND", "METRIC", "AGE"):
        table.add_column(title, no_wrap=True)
    for result in results:
        rounds = f"{result.rounds[-1].round if result.rounds else 0}/{result.plan.rounds}"
        table.add_row(
            str(result.folder.path),
            result.state.state,
            rounds,
            _metric(result),
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
