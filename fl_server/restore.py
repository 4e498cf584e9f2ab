"""`python -m fl_server.restore`: a job's storage out of its store of objects, which is left as it is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from fl_core import durable
from fl_core.errors import FLJobError, MismatchError, StorageError, UnusableError
from fl_core.models import INDEX
from fl_core.process import last_words
from fl_server.download import Known, Patient, fill, newest
from fl_server.heads import Head
from fl_server.objects import opened

TRIES = 5
"""How often a copy is begun again because the job's server has gone on and removed what was being read."""


@click.command()
@click.option("--store", required=True, help="URI of the store, as s3://bucket/folder.")
@click.option("--job", default="", help="The uid of the job whose storage it must be.")
@click.option("--storage", type=click.Path(path_type=Path), required=True, help="The folder to fill.")
@click.option(
    "--only",
    multiple=True,
    help="A file to copy, or a folder, with / at its end, of which the last one by name is copied; all without it.",
)
def main(*, store: str, job: str, storage: Path, only: tuple[str, ...]) -> None:
    """Copy what a job has kept in a store of objects into a folder, whose other files are removed."""
    try:
        try:
            copy(Patient(opened(store)), job, storage, only=only)
        except OSError as error:
            raise StorageError(f"{error.filename or storage}: {error.strerror}") from error
    except FLJobError as error:
        click.echo(str(error), err=True)
        last_words(str(error))
        sys.exit(error.exit_code)


def copy(store: Patient, job: str, folder: Path, *, only: Sequence[str] = ()) -> None:
    """Make a folder what the store holds, of this `job` if one is named, damaged models as empty files.

    With `only` it has these files alone, where they are kept, and names all in INDEX.
    """
    durable.folder(folder)
    known: dict[str, Known] = {}
    for _ in range(TRIES):
        number, head = newest(store)
        if head is None:
            return
        if job and head.owner.job != job:
            raise MismatchError(
                f"{store.objects.uri} is the storage of the job {head.owner.name} ({head.owner.job}), not of {job}"
            )
        try:
            known, sound = fill(store, _chosen(head, only), folder)
        except UnusableError:
            if newest(store).number == number:
                raise
        else:
            if sound or newest(store).number == number:
                if only:
                    durable.replace(folder / INDEX, "".join(f"{path}\n" for path in head.files).encode())
                return
    for path in (path for path, one in known.items() if not one.is_whole):
        (folder / path).unlink()
    raise StorageError(
        f"{store.objects.uri} changes faster than it can be read: after {TRIES} times what was read was removed by the "
        "job's server, which had gone on; try again when its rounds are slower, or it has ended"
    )


def _chosen(head: Head, only: Sequence[str]) -> Head:
    """The head with these files alone; of a folder, whose name ends with /, with the last one."""
    if not only:
        return head
    paths = {max((path for path in head.files if _is_meant(path, one)), default="") for one in only}
    return head.model_copy(update={"files": {path: head.files[path] for path in sorted(paths - {""})}})


def _is_meant(path: str, one: str) -> bool:
    return path.startswith(one) if one.endswith("/") else path == one


if __name__ == "__main__":
    main()
