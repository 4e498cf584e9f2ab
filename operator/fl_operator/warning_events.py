"""WarningEvents of the cluster about the children of jobs: what shows in Events only, and is watched by nobody.

Events are many and short-lived, so that a copy of them all would cost more than it gives; a namespace's are read
when a job in it is not ready, once for all such jobs.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from fl_operator.cluster.connection import Connection
from fl_operator.cluster.resources import EVENTS, Object

FRESH_SECONDS: Final = 15.0
"""What was read serves for so long."""
MOST: Final = 500
"""Events of a namespace that are read."""
KEPT: Final = ("type", "reason", "note", "regarding")
"""What is kept of an event."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """A namespace's warnings by the uid of what they are about, and when they were read."""

    at: float
    by_uid: dict[str, list[Object]]


@dataclass(slots=True)
class WarningEvents:
    """Reads of all namespaces; the cost grows with the namespaces that hold such jobs, not with the jobs."""

    connection: Connection
    clock: Callable[[], float] = time.monotonic
    _readings: dict[str, _Reading] = field(default_factory=dict)
    _locks: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    async def about(self, uids: Iterable[str], *, namespace: str) -> list[Object]:
        """The warnings about these objects; whoever asks while they are being read waits for them."""
        async with self._locks[namespace]:
            reading = self._readings.get(namespace)
            if reading is None or not self._is_fresh(reading):
                reading = await self._read(namespace)
                self._readings = {name: one for name, one in self._readings.items() if self._is_fresh(one)}
                self._readings[namespace] = reading
        return [event for uid in uids for event in reading.by_uid.get(uid, ())]

    def _is_fresh(self, reading: _Reading) -> bool:
        return self.clock() - reading.at <= FRESH_SECONDS

    async def _read(self, namespace: str) -> _Reading:
        path = f"{EVENTS.path(namespace)}?fieldSelector=type%3DWarning&limit={MOST}"
        by_uid = defaultdict(list)
        for event in (await self.connection.document(path))["items"]:
            by_uid[event.get("regarding", {}).get("uid", "")].append(
                {name: event[name] for name in KEPT if name in event}
            )
        return _Reading(self.clock(), by_uid)
