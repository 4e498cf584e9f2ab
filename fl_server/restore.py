"""`python -m fl_server.restore`: a job's storage out of its store of objects, which is left as it is."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from fl_core import durable
from fl_core.errors import FLJobError, MismatchError, StorageError
from fl_core.process import last_words
from fl_server.download import DamagedError, Patient, fill, newest
from fl_server.objects import opened

TRIES = 5
"""How often a copy is begun again because the job's server has gone on and removed what was being read."""


@click.command()
@click.option("--store", required=True, help="URI of the store, as s3://bucket/folder.")
@click.option("--job", default="", help="The uid of the job whose storage it must be.")
@click.option("--storage", type=click.Path(path_type=Path), required=True, help="The folder to fill.")
def main(*, store: str, job: str, storage: Path) -> None:
    """Copy what a job has kept in a store of objects into a folder."""
    try:
        copy(Patient(opened(store)), job, storage)
    except FLJobError as error:
        click.echo(str(error), err=True)
        last_words(str(error))
        sys.exit(error.exit_code)


def copy(store: Patient, job: str, folder: Path) -> None:
    """Make a folder what the store holds, of this `job` if one is named, damaged models as empty files."""
    durable.folder(folder)
    for _ in range(TRIES):
        number, head = newest(store)
        if head is None:
            return
        if job and head.owner.job != job:
            raise MismatchError(
                f"{store.objects.uri} is the storage of the job {head.owner.name} ({head.owner.job}), not of {job}"
            )
        try:
            _, sound = fill(store, head, folder)
        except DamagedError:
            if newest(store).number == number:
                raise
        else:
            if sound or newest(store).number == number:
                return
    raise StorageError(f"{store.objects.uri} changes faster than it can be read; try again")


if __name__ == "__main__":
    main()
