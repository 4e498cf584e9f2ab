"""The certificates of one run, in a private folder that is gone when the run ends, or else at the next run.

A run holds a lock on its folder (flock), which the kernel lets go however its process ends: by that the next one knows
what a killed one has left.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fl_core.identity import Authority, Identity
from fl_core.plan import Plan

PREFIX = "fljob-keys-"
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def identities(plan: Plan) -> Iterator[Path]:
    """Fresh certificates in a private folder, one subfolder per process; nothing of them outlives the run."""
    sweep(Path(tempfile.gettempdir()))
    authority = Authority(plan.job.uid)
    several = [Identity(plan.job.uid, role) for role in ("scheduler", "server", "observer")]
    several += [Identity(plan.job.uid, "worker", index) for index in range(plan.workers)]
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder, _held(Path(folder)):
        for identity in several:
            authority.issue(identity).write(Path(folder) / identity.name)
        yield Path(folder)


def sweep(parent: Path) -> None:
    """Remove the folders of this user's runs that were killed; one without content has only just been made."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            descriptor = os.open(folder, FOLDER)
            try:
                found = os.fstat(descriptor)
                ours = found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) == stat.S_IRWXU
                if ours and any(folder.iterdir()):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The folder is in use as long as this process lives, where its filesystem knows locks."""
    descriptor = os.open(folder, FOLDER)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
