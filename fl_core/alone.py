"""One process at a time is the worker of an identity, by a lock in the identity's folder.

Two that had read the same files would each send and sign what the other one knows nothing of.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from fl_core import durable
from fl_core.errors import StorageError

NAME = "worker.lock"
PATIENCE_SECONDS = 30.0
"""How long a process waits for the one before it, which may still be about to end."""

PAUSE_SECONDS = 0.05


def stay_alone(folder: Path, *, patience: float = PATIENCE_SECONDS) -> None:
    """Be this folder's worker until the process ends, whatever children it leaves behind.

    StorageError while another process is, after so many seconds.
    """
    path = folder / NAME
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, durable.PRIVATE)
        end = time.monotonic() + patience
        while not _locked(descriptor):
            if time.monotonic() >= end:
                os.close(descriptor)
                raise StorageError(
                    f"{path} has been locked by another process for {patience:g} s; one process at a time may be the "
                    "worker of an identity"
                )
            time.sleep(PAUSE_SECONDS)
    except OSError as error:
        raise StorageError(f"{path} cannot be locked: {error.strerror}") from error
    held = [descriptor]

    def let_go() -> None:
        while held:
            os.close(held.pop())

    os.register_at_fork(after_in_child=let_go)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
