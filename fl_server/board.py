"""What the server tells those who watch: where the job stands, which rounds closed, how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from fl_core.gathering import Gathering
from fl_core.rounds import Rounds
from fl_core.wire import fl_pb2 as pb
from fl_core.wire.channels import CLOSED_BYTES, MOST_CLOSED


class Board:
    """The present standing and all closed rounds; each watcher gets what it has not seen yet.

    `notices` are sentences that a watcher should read, and `trouble` one that holds now, if any. `describe` brings the
    standing up to date; it is called when a watcher is told, not at every change.
    """

    def __init__(self, rounds: int, expected: int, describe: Callable[[pb.Standing], None]) -> None:
        self.standing = pb.Standing(rounds=rounds, expected=expected, phase="Waiting")
        self._describe = describe
        self.closed: list[str] = []
        self.notices: list[str] = []
        self.trouble = ""
        self.ending: pb.Ending | None = None
        self._watchers: set[asyncio.Event] = set()

    def changed(self) -> None:
        """Wake every watcher; changes that come faster than a watcher reads become one."""
        for watcher in self._watchers:
            watcher.set()

    def from_threads(self) -> Callable[[str], object]:
        """What another thread tells the present trouble by, or, with no word, that it is over."""
        loop = asyncio.get_running_loop()
        return lambda sentence: loop.call_soon_threadsafe(self.troubled, sentence)

    def troubled(self, sentence: str) -> None:
        """This is the present trouble; with no word it is over."""
        self.trouble = sentence
        self.changed()

    def end(self, ending: pb.Ending) -> None:
        """The job is over."""
        self.ending = ending
        self.changed()

    async def watch(self) -> AsyncIterator[pb.Observation]:
        """One observation at once, then one or more for each change, until the job is over."""
        news = asyncio.Event()
        news.set()
        self._watchers.add(news)
        seen = 0
        try:
            while True:
                await news.wait()
                news.clear()
                self._describe(self.standing)
                self.standing.notice = "; ".join(filter(None, (*self.notices, self.trouble)))
                while (end := _piece(self.closed, seen)) < len(self.closed):
                    yield pb.Observation(standing=self.standing, closed=self.closed[seen:end], more=True)
                    seen = end
                fresh, seen = self.closed[seen:], len(self.closed)
                ending = self.ending
                yield pb.Observation(standing=self.standing, closed=fresh, ending=ending)
                if ending is not None:
                    return
        finally:
            self._watchers.discard(news)


def _piece(lines: Sequence[str], start: int) -> int:
    """Where those of the lines end that one observation holds from here on: one at least, if there are any."""
    end, left = start, CLOSED_BYTES
    while end < min(len(lines), start + MOST_CLOSED):
        left -= len(lines[end].encode())
        if left < 0 and end > start:
            break
        end += 1
    return end


def describe(standing: pb.Standing, rounds: Rounds, gathering: Gathering | None) -> None:
    """Where the job stands; between two gatherings the last one's workers stay."""
    standing.round, standing.attempt, standing.rounds = rounds.round, rounds.attempt, rounds.rounds
    standing.phase = str(rounds.phase)
    if gathering is not None:
        standing.selected[:] = sorted(gathering.cohort)
        standing.reported[:] = gathering.reported
        dropped = gathering.dropped.items()
        standing.ClearField("dropped")
        standing.dropped.extend(pb.Loss(worker=worker, reason=reason) for worker, reason in dropped)
