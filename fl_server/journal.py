"""What a server must know of its sessions after a restart: which dealt out shares, among whom, and which were signed.

Workers remember the same of themselves. A sum that anybody may have signed is never sought again, and one that anybody
may have sent a vector for is sought among the same candidates only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fl_core.rounds import Past
from fl_core.secagg.session import Purpose
from fl_server.storage import Lines


class Journal:
    """The sessions of one job, each fact on the disk before it is acted upon."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._attempts: dict[int, int] = {}
        self._candidates: dict[tuple[int, str], tuple[int, ...]] = {}
        self._signed: set[tuple[int, str]] = set()

    def restore(self, *, done: int) -> Past:
        """What an earlier process began after so many rounds were committed."""
        for row in self._lines.read():
            self._note(row)
        later = {(number, purpose) for number, purpose in self._signed if number > done}
        return Past(self._attempts, {number for number, purpose in later if purpose != "measure"})

    def candidates(self, round: int, purpose: Purpose) -> tuple[int, ...]:
        """Among whom this sum was first sought; empty if it was not."""
        return self._candidates.get((round, purpose), ())

    def is_signed(self, round: int, purpose: Purpose) -> bool:
        """Whether anybody may have signed this sum."""
        return (round, purpose) in self._signed

    def dealt(self, round: int, attempt: int, purpose: Purpose, *, candidates: Sequence[int]) -> None:
        """Shares are about to be dealt out, so that vectors may come."""
        row = {"round": round, "attempt": attempt, "purpose": purpose, "candidates": list(candidates)}
        self._note(row)
        self._lines.add(row)

    def signed(self, round: int, attempt: int, purpose: Purpose) -> None:
        """The survivors are about to be asked to sign."""
        row = {"round": round, "attempt": attempt, "purpose": purpose, "signed": True}
        self._note(row)
        self._lines.add(row)

    def _note(self, row: Mapping[str, object]) -> None:
        number, attempt, purpose = int(str(row["round"])), int(str(row["attempt"])), str(row["purpose"])
        self._attempts[number] = max(self._attempts.get(number, 0), attempt)
        if row.get("signed"):
            self._signed.add((number, purpose))
        elif isinstance(found := row.get("candidates"), list):
            self._candidates.setdefault((number, purpose), tuple(found))
