"""The fence of a job's storage: of two servers for one job, the one that started first can commit nothing more.

A server that starts claims the next epoch, an own file under `claims`. Whatever it keeps later is kept under a lock, in
which it is first looked whether the newest claim is still its own. A claim is made under the same lock, so that what
the server before has kept is there before the claim, or never. `docs/decisions/0016-*` says more. Epochs that fence off
earlier holders: M. Burrows, The Chubby Lock Service, OSDI 2006 (its sequencers).
"""

from __future__ import annotations

import datetime as dt
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fl_core import durable
from fl_core.errors import FencedError, MismatchError, StorageError, UnavailableError
from fl_core.plan import Plan, canonical

PATIENCE_SECONDS = 60.0
"""How long a claim waits for a write of the server before; it takes a moment, unless that server hangs in it."""
KEPT = 100
"""Claims that stay: by them a pod that was replaced knows itself, and a person sees who was here."""
LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose storage it is: a job's uid and name, and the digests of its plan and program."""

    job: str
    name: str
    plan: str
    program: str = ""

    @classmethod
    def of(cls, plan: Plan) -> Owner:
        """The owner that a plan names."""
        return cls(plan.job.uid, plan.job.name, plan.digest, plan.program.sha256 or "")

    def check(self, there: Owner, folder: Path | str) -> None:
        """Refuse the storage of another one, with what is to be done."""
        if there.job != self.job:
            raise MismatchError(
                f"{folder} is the storage of the job {there.name} ({there.job}), not of {self.name} ({self.job}); "
                "nothing in it was changed: give this job a storage of its own"
            )
        if there.program != self.program:
            raise MismatchError(
                f"{folder} was begun with the program {there.program[:12]}, and this job has {self.program[:12]}; "
                "nothing in it was changed: go on with the files that it was begun with, or start another job"
            )
        if there.plan != self.plan:
            raise MismatchError(
                f"{folder} was begun with the plan {there.plan[:12]}, and this job has {self.plan[:12]}; "
                "nothing in it was changed: go on with that plan, or start another job"
            )


NAMED = {"holder", *(one.name for one in fields(Owner))}


class Fence:
    """One server's claim to a storage."""

    look_seconds = 2.0
    """How often an idle server looks whether a newer one has claimed it; one that keeps something looks then."""

    def __init__(
        self, folder: Path, owner: Owner, *, holder: str = "", patience: float = PATIENCE_SECONDS
    ) -> None:
        """Claim the next epoch; `holder` names the pod, if it is one, in which a server may start several times.

        Raises MismatchError for the storage of another job, FencedError in a pod that was replaced by another one,
        UnavailableError where a server hangs in a write.
        """
        self.folder = folder / "claims"
        try:
            with self._locked(patience):
                newest = self._newest()
                if (row := self._read(newest)) is not None:
                    owner.check(Owner(**{one.name: row[one.name] for one in fields(Owner)}), folder)
                    self._check_replaced(holder, by=str(row["holder"]))
                self.epoch = self._claim({**asdict(owner), "holder": holder}, after=newest)
        except OSError as error:
            raise self._unusable(error) from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """No other server can claim the storage meanwhile; FencedError where one has."""
        with self._opened() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                raise self._unusable(error) from error
            self.check()
            yield

    @contextmanager
    def together(self) -> Iterator[None]:
        """Changes that may become durable at once; here each does when it is made."""
        yield

    def check(self) -> None:
        """FencedError where another server has claimed the storage since."""
        try:
            newest = self._newest()
        except OSError as error:
            raise self._unusable(error) from error
        if newest > self.epoch:
            raise FencedError(
                f"{self.folder.parent} was claimed by a newer server of this job (epoch {newest}, this one has "
                f"{self.epoch}); this one commits nothing more and ends; nothing is to be done"
            )
        if newest < self.epoch:
            raise StorageError(
                f"{self._path(self.epoch)} is gone, so nobody can tell whose the storage is; start the server again"
            )

    @contextmanager
    def _locked(self, patience: float) -> Iterator[None]:
        durable.folder(self.folder)
        end = time.monotonic() + patience
        with self._opened() as lock:
            while not _taken(lock):
                if time.monotonic() > end:
                    raise UnavailableError(
                        f"{self.folder.parent}: another server of this job has been writing for {patience:g} s; "
                        "where it hangs or is stopped, end it"
                    )
                time.sleep(LOOK_SECONDS)
            yield

    def _check_replaced(self, holder: str, *, by: str) -> None:
        """A pod whose network is cut would start its server again and again, and fence off the one that replaced it."""
        if holder in {"", by} or not self._has_claimed(holder):
            return
        raise FencedError(
            f"{self.folder.parent} was claimed from this pod ({holder}) and then from another ({by or 'no pod'}), "
            "which has replaced it; this server commits nothing and ends; nothing is to be done"
        )

    def _has_claimed(self, holder: str) -> bool:
        rows = (self._read(int(path.stem)) for path in self.folder.glob("*.json"))
        return any(row is not None and row["holder"] == holder for row in rows)

    def _claim(self, claim: dict[str, str], *, after: int) -> int:
        """Write the first claim that nobody has; a link is made by one process only, locks or not."""
        durable.sweep(self.folder)
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        told = {**claim, "host": socket.gethostname(), "process": os.getpid(), "since": now}
        epoch = after + 1
        while not self._made(epoch, f"{canonical(told)}\n"):
            epoch += 1
        for path in sorted(self.folder.glob("*.json"))[:-KEPT]:
            path.unlink(missing_ok=True)
        return epoch

    def _made(self, epoch: int, content: str) -> bool:
        try:
            durable.create(self._path(epoch), content.encode())
        except FileExistsError:
            return False
        return True

    def _newest(self) -> int:
        return max((int(path.stem) for path in self.folder.glob("*.json")), default=0)

    def _read(self, epoch: int) -> dict[str, Any] | None:
        """A claim; None where there is none or a person has spoilt it, for epochs count by their names."""
        try:
            row = json.loads(self._path(epoch).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return row if isinstance(row, dict) and row.keys() >= NAMED else None

    def _path(self, epoch: int) -> Path:
        return self.folder / f"{epoch:07d}.json"

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The descriptor of the file that is locked; closing it frees the lock."""
        try:
            lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, durable.PUBLIC)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            yield lock
        finally:
            os.close(lock)

    def _unusable(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self.folder} cannot be used: {error.strerror}; a storage must be writable and have file locks"
        )


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EACCES}:
            return False
        raise
    return True
