"""The keys of what must be looked at: each once, by one worker at a time, in good order.

As client-go's work queue (k8s.io/client-go/util/workqueue): a key that is added while a worker has it waits until
that worker is done; many additions before anybody looks are one. What somebody asked for goes before what happened, so
that jobs to which much happens keep no new one waiting, and that before resyncs.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count
from typing import Generic, TypeVar

from fl_operator.metrics import QueueMetrics
from fl_operator.pace import TokenBucket, exponential

K = TypeVar("K", bound=Hashable)

FIRST_RETRY_SECONDS = 0.005
MOST_RETRY_SECONDS = 120.0
"""So that an outage is not followed by another one of the same length."""
RETRY_RATE = 10.0
RETRY_BURST = 100


class Urgency(IntEnum):
    """What is taken first."""

    WISH = 0
    """Somebody asked for something, and waits."""
    CHANGE = 1
    RESYNC = 2


class ClosedError(Exception):
    """The queue gives no more keys."""


@dataclass(frozen=True, slots=True)
class Turn:
    """How a key got its turn."""

    waited: float
    """Seconds since it was added."""
    behind: int
    """Keys that were taken meanwhile."""
    since: float
    """When it was taken."""


@dataclass(slots=True)
class WorkQueue(Generic[K]):
    """Keys wait here for workers; every `take` must be followed by one `done`."""

    metrics: QueueMetrics
    clock: Callable[[], float] = time.monotonic
    bucket: TokenBucket = field(default_factory=lambda: TokenBucket(RETRY_RATE, RETRY_BURST))
    _ready: tuple[OrderedDict[K, tuple[float, int]], ...] = field(
        default_factory=lambda: tuple(OrderedDict() for _ in Urgency)
    )
    """Keys by urgency, each with the time it was added and how many had been taken by then."""
    _working: dict[K, Turn] = field(default_factory=dict)
    """Keys that workers have."""
    _taken: int = 0
    _again: dict[K, Urgency] = field(default_factory=dict)
    """Keys that were added while a worker has them."""
    _later: list[tuple[float, int, K, Urgency]] = field(default_factory=list)
    _due: dict[K, float] = field(default_factory=dict)
    """The nearest time at which a key becomes ready by itself."""
    _failures: dict[K, int] = field(default_factory=dict)
    _order: count[int] = field(default_factory=count)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _closed: bool = False

    def __post_init__(self) -> None:
        self.metrics.watch(self.running)

    def __len__(self) -> int:
        return sum(map(len, self._ready))

    def running(self) -> list[float]:
        """For how many seconds each worker has been at its key."""
        now = self.clock()
        return [now - turn.since for turn in list(self._working.values())]

    def add(self, key: K, urgency: Urgency = Urgency.CHANGE) -> None:
        """Have a key looked at."""
        if self._closed:
            return
        if key in self._working:
            self._again[key] = min(urgency, self._again.get(key, urgency))
            return
        waiting = next((lane for lane in Urgency if key in self._ready[lane]), None)
        if waiting is not None and waiting <= urgency:
            return
        added = (self.clock(), self._taken)
        if waiting is None:
            self.metrics.adds.inc()
        else:
            added = self._ready[waiting].pop(key)
        self._ready[urgency][key] = added
        self._report()

    def add_after(self, key: K, seconds: float, urgency: Urgency = Urgency.CHANGE) -> None:
        """Have a key looked at when this time has passed, or sooner if something else asks for it."""
        due = self.clock() + seconds
        if seconds <= 0:
            self.add(key, urgency)
        elif not self._closed and due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._later, (due, next(self._order), key, urgency))
            self._changed.set()

    def retry(self, key: K, *, least: float = 0.0) -> float:
        """Have a key looked at again after a failure, the later the more failures; returns the seconds."""
        self._failures[key] = self._failures.get(key, 0) + 1
        alone = exponential(self._failures[key], first=FIRST_RETRY_SECONDS, most=MOST_RETRY_SECONDS)
        seconds = max(alone, self.bucket.reserve(self.clock()), least)
        self.metrics.retries.inc()
        self.add_after(key, seconds)
        return seconds

    def forget(self, key: K) -> None:
        """Forget the failures of a key: it went well."""
        self._failures.pop(key, None)

    async def take(self) -> K:
        """The next key, which no other worker has; ClosedError when there will be none."""
        while True:
            self._ripen()
            for lane in self._ready:
                if lane:
                    return self._hand_out(lane)
            if self._closed:
                raise ClosedError
            await self._wait()

    def turn(self, key: K) -> Turn:
        """How a key got its turn that a worker has."""
        return self._working[key]

    def done(self, key: K) -> None:
        """The worker has ended with this key."""
        self.metrics.worked.observe(self.clock() - self._working.pop(key).since)
        urgency = self._again.pop(key, None)
        if urgency is not None:
            self.add(key, urgency)

    def close(self) -> None:
        """Give no more keys; workers end with those that they have."""
        self._closed = True
        for lane in self._ready:
            lane.clear()
        self._report()

    def _hand_out(self, lane: OrderedDict[K, tuple[float, int]]) -> K:
        key, (since, taken) = lane.popitem(last=False)
        now = self.clock()
        self._working[key] = Turn(now - since, self._taken - taken, now)
        self._taken += 1
        self._due.pop(key, None)
        self.metrics.waited.observe(now - since)
        self.metrics.depth.set(len(self))
        return key

    def _ripen(self) -> None:
        """Add the keys whose time has come; those that were looked at meanwhile have a new time or none."""
        now = self.clock()
        while self._later and self._later[0][0] <= now:
            due, _, key, urgency = heapq.heappop(self._later)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key, urgency)

    async def _wait(self) -> None:
        self._changed.clear()
        seconds = max(0.0, self._later[0][0] - self.clock()) if self._later else None
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    def _report(self) -> None:
        self.metrics.depth.set(len(self))
        self._changed.set()
