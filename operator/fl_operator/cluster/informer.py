"""A live copy of one kind of objects: a streamed list, then a watch, for as long as the process lives.

What may go wrong with a watch goes wrong: it ends, breaks, falls silent, is told that its version is too old
(410), or hears things twice or in the wrong order. All but the first begin it again after a wait; the last two,
and any answer to a resumption that is not understood, begin it from scratch and report the differences.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field

import structlog
from prometheus_client import Counter

from fl_operator.cluster.cache import Cache
from fl_operator.cluster.connection import Connection
from fl_operator.cluster.errors import (
    ClusterError,
    GoneError,
    InvalidError,
    TransientError,
    UnreachableError,
    refusal,
)
from fl_operator.cluster.resources import Key, Object, Resource, key_of, uid_of, version_of
from fl_operator.pace import FullJitter

log = structlog.get_logger()

SILENCE_SECONDS = 70.0
"""A watch that says nothing for so long is broken: bookmarks come every minute."""

WATCH_SECONDS = 300
"""The API server is asked to end a watch after this, plus a random part, so that replicas share the load anew."""

BRIEF_SECONDS = 1.0
"""A watch that ended sooner is not begun again at once."""

_LISTED = "k8s.io/initial-events-end"
_NOISE = ("kubectl.kubernetes.io/last-applied-configuration",)

Handler = Callable[[Object | None, Object | None], None]
"""Gets an object as it was and as it is; None where there was, or is, none."""


def trimmed(thing: Object) -> Object:
    """The object without what nobody reads and much memory holds."""
    metadata = {name: value for name, value in thing["metadata"].items() if name != "managedFields"}
    if annotations := metadata.get("annotations"):
        metadata["annotations"] = {name: text for name, text in annotations.items() if name not in _NOISE}
    return {**thing, "metadata": metadata}


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects are copied, and what of them."""

    resource: Resource
    namespace: str = ""
    """All namespaces if empty."""
    labels: str = ""
    """A label selector."""
    project: Callable[[Object], Object] = trimmed
    """What is kept of an object; `metadata` must stay, with name, namespace, UID, version and owners."""
    metadata_only: bool = False
    """Ask for `PartialObjectMetadata`: kinds of which only existence, labels and owners matter."""


class DisorderError(TransientError):
    """A watch went backwards: it cannot be trusted."""


@dataclass(slots=True)
class Informer:
    """Keeps `cache` like the API server's own state, and tells handlers what changed."""

    connection: Connection
    selection: Selection
    restarts: Counter
    silence: float = SILENCE_SECONDS
    backoff: FullJitter = field(default_factory=lambda: FullJitter(random.Random()))  # noqa: S311 - spreads load
    cache: Cache = field(default_factory=Cache)
    synced: asyncio.Event = field(default_factory=asyncio.Event)
    handlers: list[Handler] = field(default_factory=list)
    _version: int | None = None
    """The newest version seen on the watch; None: begin from scratch."""
    _listed: set[Key] | None = None
    """While the list comes: what was on it so far."""
    _held: dict[Key, list[tuple[Object | None, Object | None]]] = field(default_factory=dict)
    """What is to be told of objects that we are writing."""

    async def run(self) -> None:
        """Follow the API server until cancelled."""
        while True:
            try:
                await self._follow()
            except ClusterError as error:
                await self._recover(error)

    @contextmanager
    def writing(self, key: Key) -> Iterator[None]:
        """While a write of our own is on its way: what the watch tells of the object waits for the answer to it."""
        held = self._held.setdefault(key, [])
        try:
            yield
        finally:
            self._held.pop(key, None)
            while held:
                self._tell(*held.pop(0))

    def learn(self, thing: Object) -> None:
        """Take over the answer to a write of our own, whether the watch told of it or not; handlers know who wrote it.

        Only if it is newer than the watch: a later deletion could otherwise have been overtaken.
        """
        key, version = key_of(thing), version_of(thing)
        if self._version is not None and version > self._version:
            self._put(thing, told=False)
        elif (held := self._held.get(key)) and held[-1][1] and version_of(held[-1][1]) == version:
            held.pop()

    async def _follow(self) -> None:
        """One watch, from its opening to its regular end."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(self.silence) as limit, aclosing(self._events()) as events:
                async for event in events:
                    self._take(event)
                    self.backoff.reset()
                    limit.reschedule(clock() + self.silence)
        except TimeoutError as error:
            message = f"the watch of {self.selection.resource} was silent for {self.silence:.0f} s"
            raise UnreachableError(message) from error
        if self._listed is not None:
            raise UnreachableError(f"the list of {self.selection.resource} broke off")
        if clock() - began < BRIEF_SECONDS:
            raise UnreachableError(f"the watch of {self.selection.resource} ended at once")

    def _events(self) -> AsyncGenerator[Object]:
        return self.connection.watch(
            self.selection.resource,
            namespace=self.selection.namespace,
            query=self._query(),
            metadata_only=self.selection.metadata_only,
        )

    def _query(self) -> dict[str, str]:
        seconds = WATCH_SECONDS + self.backoff.random.randrange(WATCH_SECONDS)
        query = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        if self.selection.labels:
            query["labelSelector"] = self.selection.labels
        if self._version is not None:
            return {**query, "resourceVersion": str(self._version)}
        self._listed = set()
        return {**query, "sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}

    def _take(self, event: Object) -> None:
        kind, thing = event["type"], event["object"]
        if kind == "ERROR":
            raise refusal(f"watch {self.selection.resource}", code=thing.get("code", 500), status=thing)
        if self._listed is None:
            self._advance(event)
        if kind == "BOOKMARK":
            self._bookmark(thing)
        elif kind == "DELETED":
            self._remove(key_of(thing), version_of(thing))
        else:
            self._put(thing)

    def _advance(self, event: Object) -> None:
        """Versions only grow within a watch; what was heard twice is recognised object by object."""
        version, last = version_of(event["object"]), self._version or 0
        if version < last:
            raise DisorderError(f"the watch of {self.selection.resource} went from {last} to {version}")
        self._version = version

    def _bookmark(self, thing: Object) -> None:
        if self._listed is None or _LISTED not in (thing["metadata"].get("annotations") or {}):
            return
        listed, self._listed = self._listed, None
        self._version = version_of(thing)
        for key in self.cache:
            if key not in listed:
                self._remove(key, self._version)
        self.synced.set()

    def _put(self, thing: Object, *, told: bool = True) -> None:
        key = key_of(thing)
        if self._listed is not None:
            self._listed.add(key)
        known = self.cache.version(key)
        if known is not None and version_of(thing) <= known:
            return
        resource = self.selection.resource
        new = self.selection.project({**thing, "apiVersion": resource.api_version, "kind": resource.kind})
        if self.cache.renew(new):
            return
        old = self.cache.find(key) if told else None
        self.cache.put(new)
        if not told:
            return
        if old and uid_of(old) != uid_of(new):
            self._tell(old, None)
            old = None
        self._tell(old, new)

    def _remove(self, key: Key, version: int) -> None:
        """Forget an object, unless it is known to have been written after this version."""
        known = self.cache.version(key)
        if known is not None and known <= version:
            gone = self.cache.find(key)
            self.cache.remove(key)
            self._tell(gone, None)

    def _tell(self, old: Object | None, new: Object | None) -> None:
        if (held := self._held.get(key_of(new or old or {}))) is not None:
            held.append((old, new))
            return
        for handler in self.handlers:
            handler(old, new)

    async def _recover(self, error: ClusterError) -> None:
        """Begin again after a wait; from scratch where the version we know cannot be built upon."""
        scratch = isinstance(error, GoneError | InvalidError | DisorderError) or self._listed is not None
        if scratch:
            self._version = None
        seconds = max(self.backoff.next(), error.retry_after or 0.0)
        reason = type(error).__name__.removesuffix("Error")
        self.restarts.labels(str(self.selection.resource), reason).inc()
        log.warning("watch restarts", reason=str(error), scratch=scratch, seconds=round(seconds, 2))
        await asyncio.sleep(seconds)
