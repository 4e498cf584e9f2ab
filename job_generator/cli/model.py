"""`fl-submit model`: a run's model, as a file for what comes next."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from fl_core.errors import StorageError

if TYPE_CHECKING:
    from job_generator.local.folder import RunFolder, RunState

SUFFIXES = {"npz": ".npz", "safetensors": ".safetensors", "paddle": ".pdparams"}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--best", is_flag=True, help="The model that scored best instead of the last one.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(list(SUFFIXES)),
    help="What to write; without it, what the file's ending says.",
)
@click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The file.",
)
def model(folder: Path, *, best: bool, kind: str | None, target: Path) -> None:
    """Write a run's model to a file.

    Of a run that has not ended well, or goes on, that is the newest whole checkpoint.

    \b
    Examples:
      fl-submit model fl-runs/digits-20260101-120000 -o digits.npz
      fl-submit model fl-runs/digits-20260101-120000 --best --format paddle -o digits.pdparams
    """
    from fl_core.models import best_model, newest_model, write_npz, write_safetensors
    from job_generator.local.folder import RunFolder

    run = RunFolder(folder)
    state = run.state()
    stored = best_model(run.storage) if best else newest_model(run.storage)
    if stored.path not in {run.best_model, run.last_model}:
        here = f"the newest whole checkpoint, {stored.path}"
        click.echo(
            f"The run is {state.state} and has no final model of its last rounds; this is {here}", err=True
        )
    match kind or _kind(target):
        case "npz":
            write_npz(stored, target)
        case "safetensors":
            write_safetensors(stored, target)
        case _:
            with TemporaryDirectory(prefix="fljob-") as scratch:
                source = Path(scratch) / "model.safetensors"
                write_safetensors(stored, source)
                _export(run, state, source=source, target=target)
    arrays = f"{len(stored.arrays)} arrays, {stored.parameters:,} parameters"
    click.echo(f"{target}: the model of round {stored.round}, {arrays}")


def _kind(target: Path) -> str:
    for kind, suffix in SUFFIXES.items():
        if target.suffix == suffix:
            return kind
    raise click.UsageError(f"{target} does not end in {', '.join(SUFFIXES.values())}; say which --format")


def _export(run: RunFolder, state: RunState, *, source: Path, target: Path) -> None:
    """Let a worker process write Paddle's own format: only workers load frameworks and programs."""
    from job_generator.local.preflight import data_path

    command = [
        sys.executable,
        "-m",
        "fl_worker",
        "export",
        "--plan",
        str(run.plan),
        "--program",
        state.program,
    ]
    command += ["--data", str(data_path(state.data, 0))] if state.data else []
    command += ["--model", str(source), "--format", "paddle", "-o", str(target)]
    if code := subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
        raise StorageError(f"{target} was not written: the export ended with exit code {code}")
