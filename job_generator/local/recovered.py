"""What a run has kept in a store of objects, where its copy on this machine was lost: read there, or brought back.

The copy is made by what a reader's pod makes its own with, which claims nothing.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from fl_core.errors import FLJobError, MismatchError, StorageError, UnavailableError, UnusableError
from fl_core.plan import Plan
from job_generator.local.folder import RunFolder, RunState

KINDS: Final[dict[int, type[FLJobError]]] = {
    kind.exit_code: kind for kind in (MismatchError, UnusableError, UnavailableError)
}
"""What the exit code of the process that copies means; any other is a StorageError."""
Say = Callable[[str], None]


def is_lost(run: RunFolder, state: RunState) -> bool:
    """Whether a run keeps its storage in a store, and no server has left anything of it on this machine."""
    return state.store is not None and not any(path.is_file() for path in run.storage.rglob("*"))


def way_back(run: RunFolder, state: RunState) -> str:
    """A sentence about a storage that is lost here: where it is, and what brings it back."""
    does = "brings it back" if state.state == "Complete" else "goes on with it"
    return (
        f"There is no copy of its storage in {run.storage}; what was kept, if anything, is in {state.store}: "
        f"`fl-submit run --resume {shlex.quote(str(run.path))}` {does}."
    )


@contextmanager
def storage_of(run: RunFolder, state: RunState, *, only: Sequence[str], say: Say) -> Iterator[Path]:
    """A run's storage or, where that is lost, a copy of these files `only`; it is gone when this is left."""
    if not is_lost(run, state):
        yield run.storage
        return
    say(f"{state.store} is read, as there is no copy of it in {run.storage} ...")
    with TemporaryDirectory(prefix="fljob-") as scratch:
        _copy(run, state, Path(scratch) / "storage", only=only)
        yield Path(scratch) / "storage"


def bring_back(run: RunFolder, state: RunState, *, say: Say) -> bool:
    """Copy all that a run has kept into its folder, whole or not at all; False where nothing is lost."""
    if not is_lost(run, state):
        return False
    say(f"{state.store} is copied to {run.storage}, where there is nothing of it ...")
    with run.hold(), TemporaryDirectory(prefix=".storage-", dir=run.path) as scratch:
        _copy(run, state, Path(scratch) / "storage")
        shutil.rmtree(run.storage, ignore_errors=True)  # folders without a file
        (Path(scratch) / "storage").replace(run.storage)
    return True


def _copy(run: RunFolder, state: RunState, folder: Path, *, only: Sequence[str] = ()) -> None:
    job = Plan.read(run.plan).job.uid
    command = [sys.executable, "-m", "fl_server.restore", "--store", str(state.store), "--job", job]
    command += ["--storage", str(folder), *(f"--only={path}" for path in only)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it was ended"])[-1]
        raise KINDS.get(done.returncode, StorageError)(said)
