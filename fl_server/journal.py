"""What a server must know of its sessions after a restart: which dealt out shares, among whom, and which were signed.

Workers remember the same of themselves. A sum that anybody may have signed is never sought again, and one that anybody
may have sent a vector for is sought among the same candidates only.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from fl_core.rounds import Past
from fl_core.secagg.session import Purpose
from fl_server.checkpoints import legible
from fl_server.storage import Lines

Sought = tuple[int, str, int]
"""A sum: its round, its purpose, its bucket."""


class Journal:
    """The sessions of one job, each fact on the disk before it is acted upon.

    A round needs the sums of all its buckets but so many that it has to `spare`. Nobody is asked to sign where
    `check_room` finds that what comes of the sum could not be kept: a signed sum is never sought again.
    """

    def __init__(
        self, lines: Lines, *, spare: int = 0, check_room: Callable[[], None] = lambda: None
    ) -> None:
        self._lines = lines
        self._spare = spare
        self._check_room = check_room
        self._lock = threading.Lock()
        self._attempts: dict[int, int] = {}
        self._candidates: dict[Sought, tuple[int, ...]] = {}
        self._signed: set[Sought] = set()

    def restore(self, *, done: int) -> Past:
        """What an earlier process began after so many rounds were committed."""
        for row in self._lines.read():
            with legible(f"{self._lines.path}: {row}"):
                self._note(row)
        later = {
            (number, bucket)
            for number, purpose, bucket in self._signed
            if number > done and purpose != "measure"
        }
        spent = Counter(number for number, _ in later)
        return Past(self._attempts, {number for number, buckets in spent.items() if buckets > self._spare})

    def candidates(self, round: int, purpose: Purpose, bucket: int = 0) -> tuple[int, ...]:
        """Among whom this sum was first sought; empty if it was not."""
        return self._candidates.get((round, purpose, bucket), ())

    def is_signed(self, round: int, purpose: Purpose, bucket: int = 0) -> bool:
        """Whether anybody may have signed this sum."""
        return (round, purpose, bucket) in self._signed

    def dealt(
        self, round: int, attempt: int, purpose: Purpose, *, bucket: int = 0, candidates: Sequence[int]
    ) -> None:
        """Shares are about to be dealt out, so that vectors may come."""
        row = {"round": round, "attempt": attempt, "purpose": purpose, "bucket": bucket}
        self._add({**row, "candidates": list(candidates)})

    def signed(self, round: int, attempt: int, purpose: Purpose, *, bucket: int = 0) -> None:
        """The survivors are about to be asked to sign; StorageError where there is no room for their sum's model."""
        self._check_room()
        row = {"round": round, "attempt": attempt, "purpose": purpose, "bucket": bucket}
        self._add({**row, "signed": True})

    def _add(self, row: dict[str, Any]) -> None:
        with self._lock:
            self._note(row)
            self._lines.add(row)

    def _note(self, row: dict[str, Any]) -> None:
        number, attempt, bucket = (int(row[name]) for name in ("round", "attempt", "bucket"))
        sought = (number, str(row["purpose"]), bucket)
        self._attempts[number] = max(self._attempts.get(number, 0), attempt)
        if row.get("signed"):
            self._signed.add(sought)
        else:
            self._candidates.setdefault(sought, tuple(row["candidates"]))
