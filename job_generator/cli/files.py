"""The job's files on a command line: `JOB`, and `-f` for more that are merged over it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fl_core.errors import StorageError

if TYPE_CHECKING:
    from job_generator.source import Document
    from job_generator.spec import FLJob

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@dataclass(frozen=True, slots=True)
class JobFiles:
    """The files of one job, in the order of merging; the program lies beside the first."""

    files: tuple[Path, ...]

    def load(self) -> FLJob:
        """Read, merge and check them."""
        return self.document().job()

    def document(self) -> Document:
        """Read and merge them; the document knows where each part was written."""
        from job_generator.source import merged

        if not self.files:
            raise click.UsageError("give a job file, such as job.yaml")
        return merged(self.files)

    @property
    def program(self) -> Path:
        """The folder of the program."""
        return self.files[0].absolute().parent


def job_files(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `JOB` and `-f`; it takes them as `given`."""

    @wraps(command)
    def with_files(job: Path | None, files: tuple[Path, ...], **options: Any) -> Any:  # noqa: ANN401 - click's
        return command(given=JobFiles((*((job,) if job else ()), *files)), **options)

    more = click.option(
        "-f", "--file", "files", type=FILE, multiple=True, help="A file merged over the job; may be repeated."
    )
    return click.argument("job", type=FILE, required=False)(more(with_files))


def write(path: Path, text: str) -> None:
    """Write a file for the user, and the folders it needs; say it in one line when that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error
