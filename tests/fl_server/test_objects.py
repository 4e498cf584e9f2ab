"""What is said of a store names no secret, and says what is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fl_core.errors import MismatchError, StorageError
from fl_server.objects import _brief, opened


def test_a_client_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the extra that brings it, and no server tries again."""
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(
        MismatchError, match=r"s3://jobs/digits needs the extra `store`: pip install 'fljob\[store\]'"
    ):
        opened("s3://jobs/digits")


def test_an_address_is_told_without_its_secrets() -> None:
    """Neither what was signed nor who signs in is in a message, nor what a client says of its own inside."""
    error = RuntimeError("PUT https://me:secret@host/a/b?sig=secret failed - timed out\nDebug source: secret")
    assert _brief(error) == "PUT https://host/a/b failed - timed out"


def test_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are none the sentence names the variables that hold them."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match="AWS_ACCESS_KEY_ID"):
        opened("s3://jobs/digits").names("heads")


def test_what_is_gone_already_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a store says of an object that it is not there, those that are to be removed with it are all the same."""
    store = pytest.importorskip("obstore.store")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    bucket = opened("s3://jobs/digits")
    bucket._store = store.LocalStore(tmp_path)  # type: ignore[attr-defined]
    names = [f"{number:03d}" for number in range(100)]
    for name in names[1:]:
        bucket.put(name, b"x")
    bucket.remove(names)
    assert not list(tmp_path.iterdir())
