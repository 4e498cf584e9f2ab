"""A run as the command starts it: checked, shown while it goes on, and summed up."""

from __future__ import annotations

import asyncio
import os
import shlex
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from fl_core.errors import MismatchError
from job_generator.local import chaos_report
from job_generator.local.child import Outcome
from job_generator.local.documents import write_document
from job_generator.local.live import Display, LiveDisplay, PlainDisplay
from job_generator.local.picture import Picture
from job_generator.local.preflight import check_data, check_extensions, check_framework, check_program
from job_generator.local.replay import compare
from job_generator.local.session import MakeCommands, Run, Session
from job_generator.local.summary import Result, closing


class Unbroken(Console):
    """A console whose reader may go, as in `fl-submit run job.yaml | head`: the run goes on in silence."""

    def on_broken_pipe(self) -> None:
        """Write to nobody from here on."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


@dataclass(frozen=True, slots=True)
class Presentation:
    """How a run is shown: `output` is json or yaml for a document on standard output at the end."""

    plain: bool = False
    output: str | None = None

    @property
    def console(self) -> Console:
        """Where people read; documents keep standard output to themselves."""
        return Unbroken(stderr=self.output is not None, highlight=False)

    def display(self, run: Run) -> Display:
        """Choose the live view for terminals, lines for everything else."""
        picture = Picture(run.plan, tuple(run.folder.rounds()))
        live = self.console.is_terminal and not self.plain and not self.output
        return LiveDisplay(picture, self.console) if live else PlainDisplay(picture, self.console)


def check(run: Run) -> None:
    """Refuse what cannot go well, before any process starts."""
    again = run.before.again if run.before else "fl-submit run job.yaml"
    check_program(run.plan, run.program, again=again, fork=run.before.fork if run.before else "")
    check_framework(run.plan.program.framework)
    check_extensions(run.plan)
    check_data(run.data, run.staffing.workers if not run.plan.sites else run.plan.workers)


def conduct(run: Run, presentation: Presentation, make_commands: MakeCommands) -> int:
    """Run the job to its end and sum it up; returns the exit code."""
    with presentation.display(run) as display:
        outcome = asyncio.run(Session(run, display, make_commands).conduct())
    result = Result.read(run.folder)
    if presentation.output:
        write_document(result.document(), presentation.output)
    if outcome.exit_code:
        _failure(outcome, result, presentation.console)
    elif run.folder.replay.exists():
        return _replayed(result, presentation)
    elif not presentation.output:
        presentation.console.print(closing(result), soft_wrap=True)
    if run.faults is not None and (told := chaos_report.read(run.folder)) is not None:
        presentation.console.print(chaos_report.page(told), soft_wrap=True)
    return outcome.exit_code


def _replayed(result: Result, presentation: Presentation) -> int:
    """Say whether the models are those of the run that was followed; returns the exit code."""
    compared = compare(result.folder)
    if compared.same and not presentation.output:
        presentation.console.print(closing(result), soft_wrap=True)
    presentation.console.print(Text(compared.sentence), soft_wrap=True)
    return 0 if compared.same else MismatchError.exit_code


def _failure(outcome: Outcome, result: Result, console: Console) -> None:
    """Say who failed and why, with the user's own traceback, and what to type next."""
    path = shlex.quote(str(result.folder.path))
    if outcome.traceback:
        console.print(Text(f"\n{outcome.traceback.rstrip()}", style="dim"), soft_wrap=True)
    who = outcome.culprit or result.plan.job.name
    console.print(Text.assemble(("\n✗ ", "bold red"), (f"{who}: ", "bold"), outcome.sentence), soft_wrap=True)
    if outcome.culprit:
        console.print(Text(f"  logs:    fl-submit logs {path} --role {outcome.culprit}"), soft_wrap=True)
    console.print(Text(f"  {result.onward}"), soft_wrap=True)
