"""`fl-submit init`: a job to start from, which runs as it is."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import click

from job_generator.cli.files import write

TEMPLATES = files("job_generator") / "templates"
PLACEHOLDER = "my-job"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--framework",
    type=click.Choice(["paddle", "sklearn", "numpy"]),
    default="paddle",
    show_default=True,
    help="What the program is written with; numpy is for any object with three methods.",
)
def init(folder: Path, *, framework: str) -> None:
    """Write a new job into FOLDER: job.yaml and program.py, which run as they are.

    The job is called as the folder. Nothing that is there already is overwritten.

    \b
    Examples:
      fl-submit init my-job
      fl-submit init fraud --framework sklearn
    """
    from job_generator.part import NAME
    from job_generator.spec import LONGEST_NAME

    name = folder.absolute().name
    if not re.fullmatch(NAME, name) or len(name) > LONGEST_NAME:
        raise click.UsageError(
            f"a job is called as its folder, and {name!r} is no name; use lower-case letters, digits and "
            f"dashes, a letter first, at most {LONGEST_NAME}"
        )
    items = [item for item in (TEMPLATES / framework).iterdir() if item.name.endswith((".py", ".yaml"))]
    written = [(folder / item.name, item.read_text(encoding="utf-8")) for item in items]
    if there := [path for path, _ in written if path.exists()]:
        raise click.UsageError(f"{there[0]} is there already; nothing was written")
    for path, text in sorted(written):
        write(path, text.replace(PLACEHOLDER, name))
        click.echo(f"{path}")
    click.echo(
        f"\nNext:\n  fl-submit check {folder}/job.yaml\n  fl-submit try {folder}/job.yaml\n"
        f"  fl-submit run {folder}/job.yaml"
    )
