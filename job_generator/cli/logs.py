"""`fl-submit logs`: what the processes of a run or a job wrote, merged by time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from job_generator.cluster.options import Where, cluster_options, existing_folder, is_run, runs
from job_generator.local.documents import write_document

if TYPE_CHECKING:
    from rich.text import Text

    from job_generator.local.logs import Entry, Filter

COLOURS = {"error": "bold red", "critical": "bold red", "warning": "yellow", "debug": "dim"}
LONG = ("exception", "traceback")


@click.command()
@click.argument("what", metavar="JOB|FOLDER", shell_complete=runs)
@cluster_options
@click.option("--role", help="Only this process: server, scheduler, worker-3, or worker for all of them.")
@click.option("--index", type=int, help="With --role worker, only this one.")
@click.option("--round", "number", type=int, help="Only lines of this round.")
@click.option("-f", "--follow", is_flag=True, help="Go on while the run or the job does.")
@click.option(
    "--output", type=click.Choice(["json", "yaml"]), help="Print data for programs: a document for each line."
)
def logs(
    what: str,
    *,
    where: Where,
    role: str | None,
    index: int | None,
    number: int | None,
    follow: bool,
    output: str | None,
) -> None:
    """Show the logs of a run, by its folder, or of a job on a cluster, by its name, merged by time.

    As data each line is a document as soon as it is there: one line of JSON, or YAML that begins with ---.

    \b
    Examples:
      fl-submit logs fl-runs/digits-20260101-120000 --role worker-3
      fl-submit logs fl-runs/digits-20260101-120000 --round 7 -f
      fl-submit logs digits --role worker --index 3 -f
      fl-submit logs digits --role server --output json
    """
    if index is not None:
        if role != "worker":
            raise click.UsageError("--index goes with --role worker")
        role = f"worker-{index}"
    from job_generator.local.logs import Filter

    wanted = Filter(role=role, round=number)
    if is_run(what):
        entries = _of_run(existing_folder(what), wanted, follow=follow)
    else:
        entries = _of_job(where, what, wanted, follow=follow)
    _print(entries, of=what, number=number, output=output)


def _of_job(where: Where, name: str, wanted: Filter, *, follow: bool) -> Iterable[Entry]:
    from job_generator.cluster.jobs import exit_code, read
    from job_generator.cluster.pod_logs import PodLogs

    cluster = where.connect(name)
    read(cluster, name)
    found = PodLogs(cluster, name, wanted.process)
    if not follow:
        return filter(wanted.entry, found.entries())
    say = partial(click.echo, err=True)
    return filter(wanted.entry, found.follow(lambda: exit_code(read(cluster, name)) is None, say=say))


def _of_run(folder: Path, wanted: Filter, *, follow: bool) -> Iterable[Entry]:
    from job_generator.local.folder import RunFolder
    from job_generator.local.logs import Logs

    run = RunFolder(folder)
    run.state()
    there = sorted(path.stem for path in run.logs.glob("*.log"))
    if there and not any(map(wanted.process, there)):
        raise click.UsageError(
            f"--role {wanted.role}: there is no such process; there are {', '.join(there)}"
        )
    found = Logs(run.logs, wanted)
    return found.follow(run.held) if follow else found.entries()


def _print(entries: Iterable[Entry], *, of: str, number: int | None, output: str | None) -> None:
    """Write each line; where there is none, say so."""
    from rich.console import Console

    console, last = Console(highlight=False, soft_wrap=True), None
    for last in entries:
        if output:
            _document(last, output)
        else:
            console.print(line(last))
    if last is None:
        which = "" if number is None else f" of round {number}"
        click.echo(f"{of} has no line{which}; fl-submit status {of} shows its rounds", err=True)


def _document(entry: Entry, output: str) -> None:
    """Write one line as a document of its own, with the process's own fields."""
    known = {name: getattr(entry, name) for name in ("time", "process", "level", "event", "round", "worker")}
    document = {**{name: value for name, value in known.items() if value not in {"", None}}, **entry.rest}
    if output == "json":
        click.echo(json.dumps(document, ensure_ascii=False))
    else:
        click.echo("---")
        write_document(document, output)


def line(entry: Entry) -> Text:
    """Write one line: time, process, round, event, fields; a traceback on lines of its own."""
    from rich.text import Text

    clock = entry.time.partition("T")[2][:12] or entry.time
    place = f" [{entry.round}]" if entry.round is not None else ""
    fields = [
        f"{name}={value}" for name, value in entry.rest.items() if name not in LONG and value is not None
    ]
    if entry.worker and entry.worker != entry.process:
        fields.insert(0, f"worker={entry.worker}")
    text = Text.assemble(
        (f"{clock:<12} ", "dim"),
        (f"{entry.process:<10}", "cyan"),
        (f"{place} ", "dim"),
        (entry.event, COLOURS.get(entry.level, "")),
        (f"  {' '.join(fields)}" if fields else "", "dim"),
    )
    for name in LONG:
        if name in entry.rest:
            text.append(f"\n{entry.rest[name]}", style="dim")
    return text
