"""What the server tells those who watch: where the job stands, which rounds closed, how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fl_core.wire import fl_pb2 as pb


class Board:
    """The present standing and all closed rounds; each watcher gets what it has not seen yet."""

    def __init__(self, rounds: int, expected: int) -> None:
        self.standing = pb.Standing(rounds=rounds, expected=expected, phase="Waiting")
        self.closed: list[str] = []
        self.ending: pb.Ending | None = None
        self._watchers: set[asyncio.Event] = set()

    def changed(self) -> None:
        """Wake every watcher; changes that come faster than a watcher reads become one."""
        for watcher in self._watchers:
            watcher.set()

    async def watch(self) -> AsyncIterator[pb.Observation]:
        """One observation at once, then one for each change, until the job is over."""
        news = asyncio.Event()
        news.set()
        self._watchers.add(news)
        seen = 0
        try:
            while True:
                await news.wait()
                news.clear()
                fresh, seen = self.closed[seen:], len(self.closed)
                yield pb.Observation(standing=self.standing, closed=fresh, ending=self.ending)
                if self.ending is not None:
                    return
        finally:
            self._watchers.discard(news)
