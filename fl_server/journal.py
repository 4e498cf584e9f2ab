"""What a server must know of its sessions after a restart: which dealt out shares, among whom, and which were signed.

Workers remember the same of themselves. A sum that anybody may have signed is sought again for the same survivors only,
and one that anybody may have sent a vector for among the same candidates only, with the same vectors. In a job with
buckets others than a signed one are sought again among those who took part in them. Ranges that were learned need
nobody again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from fl_core.secagg.ranges import Exponents
from fl_core.secagg.session import Purpose
from fl_server.checkpoints import legible
from fl_server.storage import Lines

Sought = tuple[int, str, int]
"""A sum: its round, its purpose, its bucket."""


class Journal:
    """The sessions of one job, each fact on the disk before it is acted upon.

    Nobody is asked to sign where `check_room` finds that what comes of the sum could not be kept: it would have to be
    sought again, and could not be without anyone of its survivors.
    """

    def __init__(self, lines: Lines, *, check_room: Callable[[], None] = lambda: None) -> None:
        self._lines = lines
        self._check_room = check_room
        self._lock = threading.Lock()
        self._candidates: dict[Sought, tuple[int, ...]] = {}
        self._survivors: dict[Sought, tuple[int, ...]] = {}
        self._members: dict[int, tuple[int, ...]] = {}
        self._ranges: dict[tuple[int, int], Exponents] = {}

    def restore(self, *, done: int) -> set[int]:
        """Take up what earlier processes began; gives the rounds after `done` for which vectors may have left."""
        for row in self._lines.read():
            with legible(f"{self._lines.path}: {row}"):
                self._note(row)
        begun = {*self._candidates, *self._survivors}
        return {sought[0] for sought in begun if sought[0] > done and self._is_needed(sought)}

    def _is_needed(self, sought: Sought) -> bool:
        """Whether the model of this sum's round cannot be made without it."""
        number, purpose, bucket = sought
        return purpose == "update" or (purpose == "range" and (number, bucket) not in self._ranges)

    def candidates(self, round: int, purpose: Purpose, bucket: int = 0) -> tuple[int, ...]:
        """Among whom this sum was first sought; empty if it was not."""
        return self._candidates.get((round, purpose, bucket), ())

    def survivors(self, round: int, purpose: Purpose, bucket: int = 0) -> tuple[int, ...]:
        """For whom this sum may have been signed; empty if nobody was asked."""
        return self._survivors.get((round, purpose, bucket), ())

    def members(self, round: int) -> tuple[int, ...]:
        """Who took part in the newest attempt of this round that was noted; empty if none was."""
        return self._members.get(round, ())

    def ranges(self, *, done: int) -> dict[int, Exponents]:
        """By bucket the newest ranges that were learned after so many rounds were committed."""
        return {bucket: self._ranges[at, bucket] for at, bucket in sorted(self._ranges) if at > done}

    def gathered(self, round: int, attempt: int, members: Sequence[int]) -> None:
        """The buckets' sums are about to be sought of these members, all together."""
        self._add({"round": round, "attempt": attempt, "members": sorted(members)})

    def dealing(
        self, round: int, attempt: int, purpose: Purpose, *, bucket: int = 0, candidates: Sequence[int]
    ) -> None:
        """Shares are about to be dealt out, so that vectors may come."""
        row = {"round": round, "attempt": attempt, "purpose": purpose, "bucket": bucket}
        self._add({**row, "candidates": list(candidates)})

    def signing(
        self, round: int, attempt: int, purpose: Purpose, *, bucket: int = 0, survivors: Sequence[int]
    ) -> None:
        """The survivors are about to be asked to sign; StorageError where there is no room for their sum's model.

        Of a sum of measurements comes none.
        """
        if purpose != "measure":
            self._check_room()
        row = {"round": round, "attempt": attempt, "purpose": purpose, "bucket": bucket}
        self._add({**row, "survivors": list(survivors)})

    def learned(self, round: int, attempt: int, *, bucket: int, exponents: Exponents) -> None:
        """Updates are about to be handed in within these ranges: whoever voted for them is not needed again."""
        row = {"round": round, "attempt": attempt, "purpose": "range", "bucket": bucket}
        self._add({**row, "exponents": list(exponents)})

    def _add(self, row: dict[str, Any]) -> None:
        with self._lock:
            self._note(row)
            self._lines.add(row)

    def _note(self, row: dict[str, Any]) -> None:
        number = int(row["round"])
        match row:
            case {"members": members}:
                self._members[number] = tuple(members)
            case {"exponents": exponents}:
                self._ranges[number, int(row["bucket"])] = tuple(exponents)
            case {"survivors": survivors}:
                self._survivors[_sought(row)] = tuple(survivors)
            case _:
                self._candidates.setdefault(_sought(row), tuple(row["candidates"]))


def _sought(row: dict[str, Any]) -> Sought:
    """The sum that a line is about."""
    return int(row["round"]), str(row["purpose"]), int(row["bucket"])
