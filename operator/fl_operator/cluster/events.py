"""Events on objects, for people: `events.k8s.io/v1`, repetitions counted in a series instead of written again."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import structlog

from fl_operator.cluster.connection import Connection
from fl_operator.cluster.errors import AlreadyExistsError, ClusterError, NotFoundError, UnreachableError
from fl_operator.cluster.lease import now
from fl_operator.cluster.resources import EVENTS, Key, Object, key_of, uid_of
from fl_operator.pace import TokenBucket

log = structlog.get_logger()

CONTROLLER = "fljob.dev/operator"

LONGEST_NOTE = 1024
"""Bytes of a note that the API server takes."""

SERIES_SECONDS = 60.0
"""A repeated event is written at most so often after its second time."""

QUIET_SECONDS = 360.0
"""An event that did not come for so long begins a new series."""

MOST_NOTES = 4096
MOST_WAITING = 1000
OBJECT_RATE = 1 / 60
OBJECT_BURST = 25
"""New events of one object: so many at once, then one a minute."""


@dataclass(frozen=True, slots=True)
class Note:
    """What is said about an object."""

    kind: str
    api_version: str
    key: Key
    uid: str
    type: Literal["Normal", "Warning"]
    reason: str
    """One word for machines, such as `QuorumLost`."""
    action: str
    """What was being done, such as `Reconcile`."""
    text: str

    @classmethod
    def on(
        cls, thing: Object, reason: str, text: str, *, warning: bool = False, action: str = "Reconcile"
    ) -> Note:
        """A note on an object, its text cut to what the API server takes."""
        short = text.encode()[:LONGEST_NOTE].decode(errors="ignore")
        kind, version = thing["kind"], thing["apiVersion"]
        return cls(
            kind,
            version,
            key_of(thing),
            uid_of(thing),
            "Warning" if warning else "Normal",
            reason,
            action,
            short,
        )


@dataclass(slots=True)
class _Series:
    name: str
    count: int
    seen: float
    sent: float


@dataclass(frozen=True, slots=True)
class Writing:
    """An event to create (count 1) or a series to bring up to this count."""

    note: Note
    name: str
    count: int


@dataclass(slots=True)
class Aggregator:
    """Decides what is written of the notes that come."""

    names: Callable[[], str] = field(default=lambda: secrets.token_hex(8))
    _series: OrderedDict[Note, _Series] = field(default_factory=OrderedDict)
    _buckets: OrderedDict[str, TokenBucket] = field(default_factory=OrderedDict)

    def add(self, note: Note, clock: float) -> Writing | None:
        """What to write now that this note came, if anything."""
        series = self._series.get(note)
        if series is None or clock - series.seen > QUIET_SECONDS:
            return self._begin(note, clock)
        self._series.move_to_end(note)
        series.count += 1
        series.seen = clock
        if series.count > 2 and clock - series.sent < SERIES_SECONDS:  # noqa: PLR2004 - the first repetition
            return None
        series.sent = clock
        return Writing(note, series.name, series.count)

    def _begin(self, note: Note, clock: float) -> Writing | None:
        bucket = self._buckets.setdefault(note.uid, TokenBucket(OBJECT_RATE, OBJECT_BURST))
        self._buckets.move_to_end(note.uid)
        if not bucket.taken(clock):
            return None
        series = _Series(f"{note.key.name}.{self.names()}", 1, clock, clock)
        self._series[note] = series
        self._series.move_to_end(note)
        for table in (self._series, self._buckets):
            while len(table) > MOST_NOTES:
                table.popitem(last=False)
        return Writing(note, series.name, 1)


PAUSES = (0.2, 1.0)
"""Seconds before an event is written again whose connection broke."""


@dataclass(slots=True)
class Recorder:
    """Writes events in the background, as well as it can: nothing waits for them, and they may be lost."""

    connection: Connection
    instance: str
    clock: Callable[[], float] = time.monotonic
    aggregator: Aggregator = field(default_factory=Aggregator)
    _waiting: asyncio.Queue[Writing] = field(default_factory=lambda: asyncio.Queue(MOST_WAITING))

    def record(self, note: Note) -> None:
        """Have a note written."""
        writing = self.aggregator.add(note, self.clock())
        if writing is None:
            return
        try:
            self._waiting.put_nowait(writing)
        except asyncio.QueueFull:
            log.warning("event dropped", object=str(note.key), reason=note.reason, note=note.text)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            writing = await self._waiting.get()
            try:
                await self._persist(writing)
            except ClusterError as error:
                log.warning("event not written", object=str(writing.note.key), reason=str(error))
            finally:
                self._waiting.task_done()

    async def drain(self) -> None:
        """Wait until everything recorded has been written."""
        await self._waiting.join()

    async def _persist(self, writing: Writing) -> None:
        """Write, and again where the connection broke: what was written without our hearing of it is there already."""
        for pause in PAUSES:
            try:
                await self._write(writing)
            except AlreadyExistsError:
                return
            except UnreachableError:
                await asyncio.sleep(pause)
            else:
                return
        await self._write(writing)

    async def _write(self, writing: Writing) -> None:
        if writing.count > 1:
            key = Key(writing.note.key.namespace, writing.name)
            try:
                await self.connection.merge(EVENTS, key, {"series": _series_of(writing)})
            except NotFoundError:  # the API server forgets events after an hour
                await self.connection.create(event_of(writing, self.instance))
        else:
            await self.connection.create(event_of(writing, self.instance))


def event_of(writing: Writing, instance: str) -> Object:
    """The event as the API writes it."""
    note = writing.note
    event: Object = {
        "apiVersion": EVENTS.api_version,
        "kind": EVENTS.kind,
        "metadata": {"name": writing.name, "namespace": note.key.namespace},
        "eventTime": now(),
        "type": note.type,
        "reason": note.reason,
        "action": note.action,
        "note": note.text,
        "reportingController": CONTROLLER,
        "reportingInstance": instance[:128],
        "regarding": {
            "apiVersion": note.api_version,
            "kind": note.kind,
            "namespace": note.key.namespace,
            "name": note.key.name,
            "uid": note.uid,
        },
    }
    return {**event, "series": _series_of(writing)} if writing.count > 1 else event


def _series_of(writing: Writing) -> Object:
    return {"count": writing.count, "lastObservedTime": now()}
