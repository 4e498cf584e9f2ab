"""A record that was fetched from a cluster, in its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from fl_core.errors import MismatchError, StorageError
from job_generator.local.fetched import FetchedRecord
from job_generator.local.folder import RunFolder
from tests.job_generator.conftest import fetched_from

Finished = Callable[..., RunFolder]


@pytest.fixture
def folder(finished: Finished, tmp_path: Path) -> Path:
    """One of ten rounds."""
    return fetched_from(finished(), tmp_path / "toy-record")


def test_it_holds_the_job_as_its_author_meant_it(folder: Path) -> None:
    """What the API server notes for itself is left out."""
    held = yaml.safe_load((folder / "job.yaml").read_text())
    assert (set(held), set(held["metadata"])) == (
        {"apiVersion", "kind", "metadata", "spec"}, {"name", "namespace", "uid"}
    )  # fmt: skip
    assert FetchedRecord(folder).job.spec.workers.restarts_per_worker == 7


def test_nothing_is_written_over(folder: Path, tmp_path: Path) -> None:
    """A folder that holds something is refused, and stays as it is."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = RunFolder(tmp_path / "runs" / "toy")
    (tmp_path / "toy-reader").rename(tmp_path / "earlier")
    with pytest.raises(StorageError, match="is not empty; choose another with -o$"):
        fetched_from(again, folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_one_that_was_broken_off_is_none(folder: Path) -> None:
    """Without its mark, which is written last; one that is damaged ends with a sentence."""
    mark = folder / "fetched.json"
    mark.write_text("{")
    with pytest.raises(StorageError, match=r"fetched.json is damaged: .* fetch the record again"):
        _ = FetchedRecord(folder).origin
    mark.unlink()
    assert "or remove this one if a fetch was broken off" in FetchedRecord(folder).occupied
    assert not FetchedRecord(folder).is_there


def test_a_job_of_another_version_ends_with_a_sentence(folder: Path) -> None:
    """A field that this fl-submit does not know is no traceback."""
    path = folder / "job.yaml"
    path.write_text(path.read_text() + "  wings: 2\n")
    with pytest.raises(MismatchError, match="is no job that this fl-submit knows"):
        _ = FetchedRecord(folder).job
