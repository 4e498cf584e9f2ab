"""The server's side of the record: each round's line bound to the one before it, on the disk before it is told.

What a line says besides the round itself: the plan's and the program's digests, and the software that this process
knows of. The images, its own and those that the round's workers say, are what pods were told (FLJOB_IMAGE): a claim of
whoever made the pod, not a measurement.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from fl_core import durable
from fl_core.attestation import Ending, content_of, signed, statement
from fl_core.digests import file_digest
from fl_core.durable import Guard
from fl_core.environment import IMAGE
from fl_core.errors import MismatchError, StorageError, UnusableError
from fl_core.identity import Credentials
from fl_core.images import used
from fl_core.plan import Plan
from fl_core.record import (
    RESTORED,
    SIGNATURE,
    SKIPPED,
    UNSIGNED,
    Finding,
    Head,
    Record,
    Row,
    digest,
    read,
    resealed,
    stray,
    strayed,
    undone,
)
from fl_core.seals import Seal, broken
from fl_server.checkpoints import Saved
from fl_server.sentences import way_out

DISTRIBUTIONS: Final = {"paddle": "paddlepaddle", "sklearn": "scikit-learn"}
"""What a framework's package is called where it is not called as the framework is."""


class Resumed(NamedTuple):
    """How a job goes on: the last round that is over, what its model measured, and the line of each round that stands.

    `recorded` is False where the round that made the model has no line yet.
    """

    over: int
    metrics: dict[str, float]
    rows: dict[int, Row]
    recorded: bool = True
    told: tuple[str, ...] = ()
    """The lines that were added, for those who watch."""
    undone: frozenset[tuple[int, int]] = frozenset()
    """Of later rounds the attempts that were committed and given up."""


class Kept(Protocol):
    """Where lines are kept."""

    def add(self, row: dict[str, Any]) -> str:
        """Append one line, durably, and return it."""
        ...

    def whole(self) -> bytes:
        """All whole lines."""
        ...


class RoundRecord:
    """A job's metrics.jsonl, which lies at `path`; each line is signed with the `seal`, if there is one."""

    def __init__(
        self, lines: Kept, path: Path, plan: Plan, within: Guard = nullcontext, *, seal: Seal | None = None
    ) -> None:
        self._lines = lines
        self._seal = seal
        self._within = within
        self._path = path
        self._plan = plan
        self._head: Head | None = None
        self._refused: list[str] = []
        self._facts = {
            "plan": plan.digest,
            "program": plan.program.sha256 or "",
            "software": software(plan.program.framework),
        }

    def add(self, row: dict[str, Any]) -> str:
        """Append one line, and return it."""
        head = self._head or self.read().head
        bound = head.bound(row | self._facts)
        line = self._lines.add(self._seal.under(bound) if self._seal else bound)
        self._head = head.after(line.encode())
        if self._seal:
            self._seal.written()
        return line

    def read(self) -> Record:
        """What there is; a last line that a crash left unfinished is cut off, and damage is an error.

        So is a line that another than a server of this job has written or changed, before this server read it first or
        since: it signs nothing that it has not found whole, or written.
        """
        try:
            record = read(self._lines.whole(), self._plan.digest)
        except MismatchError as error:
            raise MismatchError(f"{self._path}: {error}") from error
        if record.findings:
            raise self._damaged(str(record.findings[0]))
        if self._head is not None and self._head != record.head:
            with self._within():  # a newer server has added lines: that is said first
                pass
            raise self._damaged(
                f"it has {record.head.lines} lines and is not what this server has read and written, which "
                f"were {self._head.lines}"
            )
        if self._seal and record.links and not any("signer" in link for link in record.links):
            raise MismatchError(f"{self._path}: the record {UNSIGNED}")
        if self._seal and (finding := next(self._unsigned(record, self._seal), None)):
            raise self._damaged(str(finding))
        self._head = record.head
        return record

    @staticmethod
    def _unsigned(record: Record, seal: Seal) -> Iterator[Finding]:
        """Lines that no server of this job has signed."""
        return broken(record, job=seal.job, authorities=seal.authorities)

    def compared(self) -> Callable[[Saved], str]:
        """What says why a checkpoint is none to go on from, by the record as it is read for the first one.

        The line of `resumed` names those that are not the job's; one that was given up may have its round again.
        """
        once = cache(self.read)

        def astray(saved: Saved) -> str:
            if stray(once(), saved.claim):
                self._refused.append(saved.digest)
            elif resealed(once(), saved.claim):
                self._refused.append(saved.seal)
            return strayed(once(), saved.claim)

        return astray

    def resumed(self, number: int, *, model: str, made: bool) -> Resumed:
        """How the job goes on from this round's model, which the round `made` unless it is the first.

        Rounds skipped after it are over as well: they made no model, and so no checkpoint. What was recorded after
        them is given up, and a line says so. UnusableError where lines are missing at the record's end.
        """
        record = self.read()
        self._check_whole(record, made=number if made else 0)
        rows = {row["round"]: row for row in record.rows()}
        if made and number not in rows:
            return Resumed(number, {}, rows, recorded=False, undone=undone(record, number))
        over = number
        while over + 1 in rows and rows[over + 1]["result"] == SKIPPED:
            over += 1
        back = max(rows, default=0) > over
        refused = {"refused": self._refused} if self._refused else {}
        told = (self.add({"round": over, "result": RESTORED, "model": model, **refused}),) if back else ()
        kept = {place: row for place, row in rows.items() if place <= over}
        metrics = rows[number]["metrics"] if number in rows else {}
        return Resumed(over, metrics, kept, told=told, undone=undone(record, over))

    def _check_whole(self, record: Record, *, made: int) -> None:
        """A round that made a checkpoint is recorded, or the next one to be; and what was signed before is there."""
        last, signed_lines, signed_last = max(record.last, self._plan.done), *self._signed()
        if made > last + 1:
            raise self._damaged(
                f"there is a checkpoint of round {made}, and the record ends with round {last}"
            )
        lines = record.lines[:signed_lines]
        if signed_lines and (len(lines) < signed_lines or digest(lines[-1]) != signed_last):
            raise self._damaged(
                f"{SIGNATURE} was signed for {signed_lines} lines, which are not those that are there"
            )

    def _damaged(self, why: str) -> UnusableError:
        return UnusableError(
            f"{self._path} is damaged: {why}; nothing was changed: {way_out(self._path.parent)}"
        )

    def _signed(self) -> tuple[int, str]:
        """How many lines an earlier end was signed for, and the digest of the last one; none if nothing can be read."""
        try:
            said = content_of(json.loads(self._path.with_name(SIGNATURE).read_text(encoding="utf-8")))
            ends = said["predicate"]["record"]
            return int(ends["lines"]), str(ends["last"])
        except (OSError, ValueError, KeyError, TypeError, MismatchError):
            return 0, ""

    def sign(self, ending: Ending, credentials: Credentials, *, files: Mapping[str, Path]) -> None:
        """Sign the record's head, and the SHA-256 of its file and of these, into record.sig.json beside it."""
        try:
            named = {**files, self._path.name: self._path}
            found = {name: file_digest(path, missing_ok=True) for name, path in named.items()}
            record = self.read()
            content = statement(self._plan, record.head, ending, files=found, images=used(record.rows()))
            target = self._path.with_name(SIGNATURE)
            with self._within():
                durable.replace(target, json.dumps(signed(content, credentials), indent=1).encode())
        except OSError as error:
            raise StorageError(f"{self._path.parent} cannot be signed: {error}") from error


def software(framework: str) -> dict[str, str]:
    """The versions of what this process runs on, and of the framework where it is installed beside it."""
    packages: Iterable[str] = ("fljob", "numpy", DISTRIBUTIONS.get(framework, framework))
    found = {name: known for name in packages if (known := _version(name))}
    found |= {"python": platform.python_version(), "machine": platform.machine()}
    return found | ({"image": image} if (image := os.environ.get(IMAGE)) else {})


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
