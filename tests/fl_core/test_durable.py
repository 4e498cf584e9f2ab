"""A file is what it was or what it is to be; where it is not to be, nothing is left of the attempt."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fl_core import durable


def files(folder: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in folder.iterdir()}


def test_parts_are_written_in_order(tmp_path: Path) -> None:
    """A file is replaced by all parts in their order, and only its owner reads a private one."""
    path = tmp_path / "one"
    path.write_bytes(b"old")
    durable.replace(path, b"new", memoryview(bytes(3)), mode=durable.PRIVATE)
    assert files(tmp_path) == {"one": b"new\0\0\0"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_may_not_be_leaves_what_was(tmp_path: Path) -> None:
    """A guard that refuses is asked when all is written, and the old content stays, with nothing beside it."""

    @contextmanager
    def never() -> Iterator[None]:
        assert len(files(tmp_path)) == 2
        raise PermissionError
        yield

    durable.replace(tmp_path / "one", b"old")
    with pytest.raises(PermissionError):
        durable.replace(tmp_path / "one", b"new", within=never)
    assert files(tmp_path) == {"one": b"old"}


def test_what_cannot_be_added_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of which only a part fits on the disk leaves the file as it was."""
    path, write = tmp_path / "lines", os.write
    durable.append(path, b"1\n")

    def full(one: int, content: Any) -> int:
        write(one, content[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        durable.append(path, b"two\n")
    assert path.read_bytes() == b"1\n"


def test_leftovers_are_swept(tmp_path: Path) -> None:
    """What was never finished goes; other hidden files and whole ones stay."""
    for name in (".one.1f.partial", ".one", "two.partial"):
        (tmp_path / name).touch()
    durable.sweep(tmp_path)
    assert files(tmp_path).keys() == {".one", "two.partial"}
