"""What a worker remembers of secure sums over its own restarts: for which it sent which vector, and whom it signed.

Of each kind of sum the last one is kept. Rounds only go on, so a sum of an older one than any of these is refused
whole; a server that was set back to an earlier state goes on with rounds that nobody has signed.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from fl_core import durable
from fl_core.errors import ProtocolError, StorageError
from fl_core.secagg.session import Context

MOST_BYTES = 1 << 16
"""What is added to the file at most before it is written anew with what counts."""


class FileMemory:
    """A small file of JSON lines beside the worker's key, each fact on the disk before it is acted upon.

    A line holds rows by the kind of sum; of each kind the last one counts. One sync makes a line safe, where a new
    file needs two. A last line that a crash left unfinished was not acted upon.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._rows: dict[str, dict[str, Any]] = self._read()
        self._left = 0
        """Bytes that may still be added: none at first and after an error, so that no half line is added to."""

    def bind(self, context: Context, candidacy: bytes, content: bytes) -> None:
        """Note that a vector of this sum is about to leave; refuse another one than before, or other candidates.

        Refuses, too, to tell in two kinds of sums of one round in which ranges an update lies.
        """
        with self._lock:
            self._bind(context, candidacy, content)

    def _bind(self, context: Context, candidacy: bytes, content: bytes) -> None:
        row = self._row(context)
        if row.get("candidacy", candidacy.hex()) != candidacy.hex():
            raise ProtocolError(
                f"{context}: a vector of this sum was sent among other candidates; a second sum with other "
                "members would give away the difference"
            )
        if row.get("content", content.hex()) != content.hex():
            raise ProtocolError(
                f"{context}: another vector of this sum was sent before; what was made anew came out otherwise, as "
                "with fresh noise, and two sums would give away the difference"
            )
        told = {"tells_ranges": True} if context.tells_ranges else {}
        if told and (others := self._tellers(context)):
            raise ProtocolError(
                f"{context}: this round's {others[0]} sum has told already in which ranges its update lies; two such "
                "sums with other members would give away the difference"
            )
        self._keep(context, {**row, "candidacy": candidacy.hex(), "content": content.hex(), **told})

    def _tellers(self, context: Context) -> list[str]:
        """What else was sent in this round that tells of ranges."""
        return [
            purpose
            for purpose, row in self._rows.items()
            if purpose != context.purpose and row["round"] == context.round and row.get("tells_ranges")
        ]

    def sign(self, context: Context, statement: bytes) -> None:
        """Note that survivors of this sum are about to be signed; refuse a second set."""
        with self._lock:
            row = self._row(context)
            if row.get("signed", statement.hex()) != statement.hex():
                raise ProtocolError(f"{context}: other survivors of this sum were signed already")
            self._keep(context, {**row, "signed": statement.hex()})

    def _row(self, context: Context) -> dict[str, Any]:
        newest = max((row["round"] for row in self._rows.values()), default=context.round)
        if newest > context.round:
            raise ProtocolError(f"{context}: sums of round {newest} were made already; rounds only go on")
        row = self._rows.get(context.purpose, {})
        return row if row.get("round") == context.round else {"round": context.round}

    def _keep(self, context: Context, row: dict[str, Any]) -> None:
        rows = {**self._rows, context.purpose: row}
        line = _line({context.purpose: row})
        left, self._left = self._left - len(line), 0
        try:
            if left < 0 or not self._path.exists():
                durable.replace(self._path, _line(rows), mode=durable.PRIVATE)
                left = MOST_BYTES
            else:
                durable.append(self._path, line)
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written: {error.strerror}; make room") from error
        self._rows, self._left = rows, left

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            if not self._path.exists():
                return {}
            first, *others = self._path.read_bytes().split(b"\n")[:-1]
            rows: dict[str, Any] = {}
            for line in (first, *others):
                rows |= json.loads(line).items()
            return {purpose: {**row, "round": int(row["round"])} for purpose, row in rows.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise StorageError(
                f"{self._path} is damaged: {error}; without it no sum is safe to join"
            ) from error


def _line(rows: dict[str, dict[str, Any]]) -> bytes:
    return json.dumps(rows).encode() + b"\n"
