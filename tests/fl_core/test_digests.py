"""The digest of a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fl_core.digests import file_digest


def test_a_file_has_the_digest_of_its_bytes(tmp_path: Path) -> None:
    """Also one that is longer than what is read at once."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 100_000)
    assert file_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_is_not_there_has_a_digest_only_where_it_may_be_missing(tmp_path: Path) -> None:
    """That of an empty one, as of a record without lines."""
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError):
        file_digest(path)
    assert file_digest(path, missing_ok=True) == hashlib.sha256(b"").hexdigest()
