"""`fl-submit status`: where one run stands, from its folder alone."""

from __future__ import annotations

from pathlib import Path

import click

from job_generator.local.documents import document_option, write_document

COLOURS = {"Complete": "green", "Running": "cyan", "Failed": "red"}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@document_option
def status(folder: Path, output: str | None) -> None:
    """Show where a run stands, also while it goes on.

    \b
    Example:
      fl-submit status fl-runs/digits-20260101-120000
    """
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
    state, done = result.state, result.rounds[-1].round if result.rounds else 0
    where = f"  {state.job}: round {done}/{result.plan.rounds}  {state.reason}".rstrip()
    console.print(Text.assemble((state.state, COLOURS.get(state.state, "yellow")), where), soft_wrap=True)
    if state.message:
        console.print(Text(state.message), soft_wrap=True)
    if result.rounds:
        console.print(rounds_table(Picture(result.plan, result.rounds)))
    if state.state in {"Complete", "Stopped"}:
        console.print(closing(result), soft_wrap=True)
    elif result.onward:
        console.print(Text(result.onward), soft_wrap=True)
