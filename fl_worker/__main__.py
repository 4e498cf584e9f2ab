"""`fl-worker`: train in a job (`train`), try a program (`try`), show its first model (`init`), export one."""

from __future__ import annotations

from pathlib import Path

import click

from fl_core.commands import Commands

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
PATH = click.Path(path_type=Path)


@click.group(cls=Commands)
def main() -> None:
    """Train the user's program on data that never leaves this worker."""


plan = click.option("--plan", required=True, type=FILE, help="The plan that the job generator wrote.")
program = click.option("--program", required=True, type=FOLDER, help="The folder with the user's program.")
index = click.option("--index", default=0, show_default=True, help="Which worker this is, from 0.")
data = click.option("--data", type=PATH, help="This worker's own data.")


@main.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def train(arguments: tuple[str, ...]) -> None:
    """Take part in a job until it ends."""
    from fl_worker import train as training  # noqa: PLC0415 - loads grpc

    training.main(args=list(arguments), prog_name="fl-worker train")


@main.command(name="try")
@plan
@program
@index
@data
def attempt(*, plan: Path, program: Path, index: int, data: Path | None) -> None:
    """Train one round of one worker in this process: breakpoint() works, exceptions are shown whole."""
    from fl_worker import cli_try  # noqa: PLC0415 - loads the program's framework

    cli_try.run(plan, program=program, index=index, data=data)


@main.command()
@plan
@program
@index
@data
def init(*, plan: Path, program: Path, index: int, data: Path | None) -> None:
    """Print the initial model's manifest, size and digest as one line of JSON."""
    from fl_worker import cli_init  # noqa: PLC0415 - loads the program's framework

    cli_init.run(plan, program=program, index=index, data=data)


@main.command()
@plan
@program
@data
@click.option("--model", required=True, type=FILE, help="The model, as the server wrote it (safetensors).")
@click.option("--format", "form", required=True, type=click.Choice(["npz", "safetensors", "paddle"]))
@click.option("-o", "--output", required=True, type=PATH, help="The file to write.")
def export(*, plan: Path, program: Path, data: Path | None, model: Path, form: str, output: Path) -> None:
    """Write a trained model in another format; only Paddle's own needs the program."""
    from fl_worker import cli_export  # noqa: PLC0415 - loads numpy

    source = cli_export.Source(plan=plan, program=program, data=data, model=model)
    cli_export.run(source, form=form, output=output)


if __name__ == "__main__":
    main(prog_name="fl-worker")
