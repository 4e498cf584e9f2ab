"""The file in which every charge is on disk before what it pays for is released.

One line per entry (`fl_core.privacy.chain`), appended and synced, never rewritten; each vouches for those before it.
That the last lines are there is told by a second file beside it, `<name>.head`, which is replaced after each append,
and by the head that whoever opens the ledger remembers (a checkpoint does). What does not fit together is refused with
UnusableError: an unreadable ledger is never an empty one. All this guards against accidents; who may write the files
can write others.

The ledger lies outside the checkpoints: going back to an older one lowers no epsilon.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Self

import structlog

from fl_core import durable
from fl_core.durable import Guard
from fl_core.errors import SpecError, StorageError, UnusableError
from fl_core.privacy.accountant import Guarantee, epsilon
from fl_core.privacy.chain import (
    WAY_OUT,
    Charge,
    Head,
    Opening,
    Parent,
    canonical,
    chained,
    check_reaches,
    line,
    parsed,
    sorted_out,
)
from fl_core.privacy.costs import Cost

log = structlog.get_logger()


class Ledger:
    """The open ledger of one job; what charges are made `within` sees to it that one process makes them."""

    def __init__(
        self, path: Path, entries: Sequence[Opening | Charge], *, head: Head, within: Guard = nullcontext
    ) -> None:
        self.path = path
        self.head = head
        self._within = within
        self._failed = False
        self._opening, self._charges = sorted_out(entries, path)

    @classmethod
    def create(
        cls, path: Path, opening: Opening, *, parents: Sequence[Path] = (), within: Guard = nullcontext
    ) -> Self:
        """Begin a ledger; the charges in those of the jobs that this one was forked from count from the start."""
        lines, head = chained(_inherited(opening, parents))
        first = _head_of(path)  # alone and as it would be written, it is what a kill left of this beginning
        if path.exists() or (first.exists() and _read(first) != _encoded(head)):
            raise UnusableError(f"{path} or its head is there already: a ledger is begun once; {WAY_OUT}")
        with within():
            _replace(first, _encoded(head))
            _replace(path, "".join(lines).encode())
        return cls.open(path, seen=head, within=within)

    @classmethod
    def open(cls, path: Path, *, seen: Head | None = None, within: Guard = nullcontext) -> Self:
        """Go on with a ledger. `seen` is a head that it once had: that entry must still be there.

        A torn last line is cut off where the head shows that all whole entries before it are there: a charge counts
        as made only once the head was replaced, so nothing was released for one that a power cut tore.
        """
        with within():
            content = _read(path)
            whole = content[: content.rfind(b"\n") + 1]
            entries, digests = parsed(whole, path)
            head = Head(len(entries), digests[-1])
            recorded = _recorded(path)
            for known in [recorded, *([seen] if seen else [])]:
                check_reaches(path, digests, known)
            _check_keeps_up(path, head, recorded)
            if whole != content:
                _take_back(path, len(whole))
            if head != recorded:  # killed between the two files, before the release
                _replace(_head_of(path), _encoded(head))
        return cls(path, entries, head=head, within=within)

    def charge(self, charge: Charge) -> Head:
        """Put a charge on disk; when this returns, and not before, the release may happen.

        The same round and attempt may be charged again: each call pays for fresh noise.
        """
        text, digest = line(charge, self.head.digest)
        head = Head(self.head.entries + 1, digest)
        try:
            with self._within():
                self._append(text.encode())
                _replace(_head_of(self.path), _encoded(head))
        except StorageError:
            self._failed = True  # whether the entry is there shows when it is opened again
            raise
        self.head = head
        self._charges = (*self._charges, charge)
        return head

    @property
    def opening(self) -> Opening:
        """What this ledger is about."""
        return self._opening

    @property
    def charges(self) -> tuple[Charge, ...]:
        """All charges, those of parents first."""
        return self._charges

    def epsilon(self, *, further: Iterable[Cost] = ()) -> Guarantee:
        """What all charges come to, and would come to with `further` costs."""
        opening = self._opening
        costs = [cost for charge in self._charges for cost in charge.costs]
        others = [
            f"in the rounds of {one.job}: {one.adversary}"
            for one in opening.parents
            if one.adversary != opening.adversary
        ]
        return Guarantee(
            epsilon=epsilon([*costs, *further], delta=opening.delta, neighbours=opening.neighbours),
            delta=opening.delta,
            unit=opening.unit,
            neighbours=opening.neighbours,
            adversary="; ".join([opening.adversary, *others]),
        )

    def _append(self, text: bytes) -> None:
        """Write and sync one line, or leave the file as it was."""
        if self._failed:
            raise StorageError(f"an earlier charge to {self.path} failed; open it again")
        try:
            durable.append(self.path, text)
        except OSError as error:
            raise _unwritten(self.path, error) from error


# -- forks


def looked_at(path: Path) -> tuple[Opening, tuple[Charge, ...], list[str]]:
    """Another job's ledger, which is left as it is: the opening, the charges, and the digest of each entry."""
    recorded = _recorded(path)  # first: a parent that still trains may be charged meanwhile
    entries, digests = parsed(_read(path), path)
    check_reaches(path, digests, recorded)
    return *sorted_out(entries, path), digests


def _inherited(opening: Opening, parents: Sequence[Path]) -> list[Opening | Charge]:
    """The opening with what it says of the parents and of theirs, and all charges that count from the start."""
    known: dict[str, Parent] = {}
    charges: list[Charge] = []
    for path in parents:
        theirs, found, digests = looked_at(path)
        _check_fork(opening, theirs, path)
        itself = Parent(job=theirs.job, adversary=theirs.adversary, digest=digests[-1], charges=0)
        known |= {one.job: one for one in (itself, *theirs.parents)}
        charges += found
    counts = Counter(one.job for one in charges)
    named = tuple(one.model_copy(update={"charges": counts[job]}) for job, one in known.items())
    return [opening.model_copy(update={"parents": named}), *charges]


def _check_fork(opening: Opening, theirs: Opening, path: Path) -> None:
    if opening.job in {theirs.job, *(one.job for one in theirs.parents)}:
        raise SpecError(
            f"privacy: {path} is a ledger of job {opening.job} itself; a fork has a uid of its own"
        )
    if (theirs.unit, theirs.neighbours) != (opening.unit, opening.neighbours):
        raise SpecError(
            f"privacy: {path} is about {theirs.neighbours} {theirs.unit}, this job about {opening.neighbours} "
            f"{opening.unit}; the epsilons of a fork and its parents must be about the same"
        )


# -- files


def _head_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.head")


def _encoded(head: Head) -> bytes:
    return (canonical({"digest": head.digest, "entries": head.entries}) + "\n").encode()


def _recorded(path: Path) -> Head:
    content = _read(_head_of(path))
    try:
        row = json.loads(content)
        head = Head(int(row["entries"]), str(row["digest"]))
    except (ValueError, KeyError, TypeError) as error:
        raise UnusableError(f"{_head_of(path)} is damaged: {error}; {WAY_OUT}") from error
    if _encoded(head) != content:
        raise UnusableError(f"{_head_of(path)} is damaged; {WAY_OUT}")
    return head


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UnusableError(f"{path} is missing; {WAY_OUT}") from error
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}; {WAY_OUT}") from error


def _replace(path: Path, content: bytes) -> None:
    try:
        durable.folder(path.parent)
        durable.replace(path, content, mode=durable.PRIVATE)
    except OSError as error:
        raise _unwritten(path, error) from error


def _take_back(path: Path, size: int) -> None:
    """Cut off the line that was being written when the power went."""
    log.warning("a charge that was never acknowledged is taken back", path=str(path))
    try:
        durable.shorten(path, size)
    except OSError as error:
        raise _unwritten(path, error) from error


def _unwritten(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path} cannot be written: {error.strerror}; nothing may be released without its charge"
    )


def _check_keeps_up(path: Path, head: Head, recorded: Head) -> None:
    if head.entries > recorded.entries + 1:
        raise UnusableError(f"{path} is longer than its head says, by more than one entry; {WAY_OUT}")
