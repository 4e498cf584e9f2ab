"""Files and folders that are whole after a power cut: as they were before, or as they are after, never a part.

What a write must do for that, and why a name is synced apart from the content: T. S. Pillai et al., All File Systems
Are Not Created Equal, OSDI 2014.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

Guard = Callable[[], AbstractContextManager[object]]
"""What a change of what is kept happens within; it raises where the change may not be."""

PARTIAL = ".partial"
PUBLIC, PRIVATE = 0o666, 0o600


@contextmanager
def whole(path: Path, *, mode: int = PUBLIC, within: Guard = nullcontext) -> Iterator[Path]:
    """A file to write to, which is synced and takes the name `path` once all went well; else nothing is left of it.

    Its name is its own, so that two processes never write to the same one. Raises OSError.
    """
    temporary = _own(path)
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode))
        yield temporary
        sync(temporary)
        with within():
            os.replace(temporary, path)  # noqa: PTH105 - tests watch the system's own calls
            sync(path.parent)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108 - as above
        raise


def replace(path: Path, *parts: bytes | memoryview, mode: int = PUBLIC, within: Guard = nullcontext) -> None:
    """Give a file this content; OSError leaves what was there."""
    with whole(path, mode=mode, within=within) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for part in parts:
                _write(descriptor, part)
        finally:
            os.close(descriptor)


def create(path: Path, content: bytes) -> None:
    """Make a file with this content; FileExistsError where there is one: of several processes one makes it."""
    temporary = _own(path)
    try:
        replace(temporary, content)
        os.link(temporary, path)
        sync(path.parent)
    finally:
        with suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108 - as above


def append(path: Path, content: bytes) -> None:
    """Add to a file, which is made if there is none; OSError leaves what was there."""
    is_new = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, PUBLIC)
    try:
        size = os.fstat(descriptor).st_size
        _write(descriptor, content)
        os.fsync(descriptor)
    except OSError:
        with suppress(OSError):
            shorten(path, size)
        raise
    finally:
        os.close(descriptor)
    if is_new:
        sync(path.parent)


def shorten(path: Path, size: int) -> None:
    """Cut off what stands behind the first `size` bytes."""
    os.truncate(path, size)
    sync(path)


def probe(path: Path, size: int) -> None:
    """Find out whether this folder takes a file, and has room for so many bytes; OSError where not, and nothing stays.

    How much is free is what the filesystem says, which may know nothing of a user's quota.
    """
    temporary = _own(path / "room")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
        try:
            disk = shutil.disk_usage(path)
            if disk.total and disk.free < size:  # some mounted stores say that they have nothing at all
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            _write(descriptor, b"room")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    finally:
        with suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108 - as above


def folder(path: Path) -> None:
    """Make a folder, and those that it lies in, where they are missing."""
    if not path.is_dir():
        folder(path.parent)
        with suppress(FileExistsError):
            os.mkdir(path)  # noqa: PTH102 - as above
        sync(path.parent)


def sweep(path: Path) -> None:
    """Remove what processes that were killed had not finished in a folder."""
    for left in path.glob(f".*{PARTIAL}"):
        os.unlink(left)  # noqa: PTH108 - as above


def settle(path: Path) -> None:
    """What a process that was killed left in a folder unsynced, contents and names, is on the disk from now on.

    Whoever goes on from what it reads there must not see it go with a later power cut.
    """
    for file in path.iterdir():
        with suppress(FileNotFoundError):  # another server of the job may still be there
            if file.is_file():
                sync(file)
    sync(path)


def sync(path: Path) -> None:
    """A file's content, or the names in a folder, are on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _own(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")


def _write(descriptor: int, content: bytes | memoryview) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]
