"""Why this server refused what workers of the open attempt sent: in words of its own, which the record may hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fl_core.errors import RoundError
from fl_core.shortfall import LEFT, refused
from fl_core.wire import fl_pb2 as pb


class Refusals:
    """The newest refusal of each worker, until it tries again or another attempt begins."""

    def __init__(self) -> None:
        self._place = (0, 0)
        self._why: dict[str, str] = {}

    def begin(self, round: int, attempt: int) -> None:
        """Another attempt is open."""
        self._place = round, attempt
        self._why.clear()

    @contextmanager
    def noted(self, worker: str, place: pb.Context) -> Iterator[None]:
        """Remember why what this worker sends for the open attempt is refused within the block.

        An error that has nothing to say for the record is none of that: a transfer breaks off with its connection.
        """
        self._why.pop(worker, None)
        try:
            yield
        except RoundError as error:
            if error.short and (place.round, place.attempt) == self._place:
                self._why[worker] = refused(error)
            raise

    def behind(self, worker: str, reason: str) -> str:
        """The reason for which a worker is dropped: a refusal that it came after, or else this one."""
        return reason if reason == LEFT else self._why.get(worker, reason)
