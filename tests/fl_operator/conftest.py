"""A small API server behind the wire: objects, versions, watches; it breaks when it is told to."""

from __future__ import annotations

import asyncio
import copy
import random
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from fl_operator.cluster.connection import Connection
from fl_operator.cluster.errors import UnreachableError, refusal
from fl_operator.cluster.informer import Informer, Selection
from fl_operator.cluster.resources import CONFIG_MAPS, version_of
from fl_operator.cluster.transport import MERGE, Request
from fl_operator.pace import FullJitter

Object = dict[str, Any]
LISTED = {"k8s.io/initial-events-end": "true"}


def merged(known: Object, change: Object) -> Object:
    """What a JSON merge patch makes of an object; none here removes anything."""
    inner = {
        name: merged(known.get(name, {}), value) if isinstance(value, dict) else value
        for name, value in change.items()
    }
    return {**known, **inner}


def status(code: int, reason: str) -> Object:
    return {"kind": "Status", "code": code, "reason": reason, "message": "as told"}


class Mailbox(asyncio.Queue[Object | Exception | None]):
    """What waits to be told to one watch."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def watches(self, path: str) -> bool:
        """Whether the object at this path is one of the watch's."""
        of_all = re.sub("/namespaces/[^/]+", "", path)
        return self.path in {path.rpartition("/")[0], of_all.rpartition("/")[0]}


class Memory:
    """Answers requests as the API server does, as far as the operator notices."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.version = 100
        self.uids = 0
        self.requests: list[Request] = []
        self.watches: list[Mailbox] = []
        self.history: list[tuple[str, Object]] = []
        """What watches told, for those that resume."""
        self.oldest = 0
        """Watches cannot resume from before this version."""
        self.failing: list[Exception] = []
        """Raised by the next requests and watches, one each."""
        self.default_class = "standard"
        """The storage class of claims that name none; they get none where it is empty."""
        self.open = self.busiest = 0
        """Requests that wait for their answers now, and the most there were."""

    # -- the wire

    async def send(self, request: Request) -> Object:
        self.requests.append(request)
        self.open += 1
        self.busiest = max(self.open, self.busiest)
        await asyncio.sleep(0)
        self.open -= 1
        if self.failing:
            raise self.failing.pop(0)
        path = request.path.removesuffix("/status")
        if request.method == "POST":
            path = f"{path}/{request.body['metadata']['name']}"
            if path in self.objects:
                raise refusal(str(request), code=409, status=status(409, "AlreadyExists"))
            made = self._classed(request.body)
            return made if "dryRun" in request.query else self.put(path, made)
        if path not in self.objects and request.content_type != "application/apply-patch+yaml":
            raise refusal(str(request), code=404, status=status(404, "NotFound"))
        return self._change(request, path)

    async def lines(self, request: Request) -> AsyncGenerator[Object]:
        self.requests.append(request)
        await asyncio.sleep(0)
        if self.failing:
            raise self.failing.pop(0)
        mailbox = Mailbox(request.path)
        self.watches.append(mailbox)
        if "sendInitialEvents" in request.query:
            listed = [one for path, one in self.objects.items() if mailbox.watches(path)]
            for thing in copy.deepcopy(listed):
                yield {"type": "ADDED", "object": thing}
            yield self.bookmark(LISTED)
        else:
            for event in self._missed(mailbox, int(request.query["resourceVersion"])):
                mailbox.put_nowait(event)
        try:
            while event := await mailbox.get():
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.watches.remove(mailbox)

    async def close(self) -> None:
        """Nothing is open."""

    def _change(self, request: Request, path: str) -> Object:
        known = self.objects.get(path, {})
        if request.method == "GET":
            return copy.deepcopy(known)
        if request.method == "DELETE":
            if request.body["preconditions"]["uid"] != known["metadata"]["uid"]:
                raise refusal(str(request), code=409, status=status(409, "Conflict"))
            return self.drop(path)
        if request.method == "PUT":
            stale = request.body["metadata"].get("resourceVersion") != known["metadata"]["resourceVersion"]
            if stale:
                raise refusal(str(request), code=409, status=status(409, "Conflict"))
        if request.path.endswith("/status"):
            return self.put(path, {**known, "status": request.body["status"]})
        changed = merged(known, request.body) if request.content_type == MERGE else {**known, **request.body}
        return changed if "dryRun" in request.query else self.put(path, changed)

    def _classed(self, thing: Object) -> Object:
        if thing.get("kind") != "PersistentVolumeClaim" or not self.default_class:
            return thing
        return {**thing, "spec": {"storageClassName": self.default_class, **thing["spec"]}}

    def _missed(self, mailbox: Mailbox, since: int) -> list[Object]:
        if since < self.oldest:
            return [{"type": "ERROR", "object": status(410, "Expired")}]
        return [
            copy.deepcopy(event)
            for path, event in self.history
            if mailbox.watches(path) and version_of(event["object"]) > since
        ]

    # -- what others do to the cluster

    def put(self, path: str, thing: Object) -> Object:
        """Write an object, as any client may."""
        self.version += 1
        known = self.objects.get(path)
        self.uids += known is None
        uid = known["metadata"]["uid"] if known else f"uid-{self.uids}"
        metadata = {**thing["metadata"], "uid": uid, "resourceVersion": str(self.version)}
        self.objects[path] = {**copy.deepcopy(thing), "metadata": metadata}
        self._happened(path, "MODIFIED" if known else "ADDED")
        return copy.deepcopy(self.objects[path])

    def drop(self, path: str) -> Object:
        """Remove an object, as any client may."""
        self.version += 1
        self.objects[path]["metadata"]["resourceVersion"] = str(self.version)
        self._happened(path, "DELETED")
        return self.objects.pop(path)

    def compact(self) -> None:
        """Forget what happened, so that no watch can resume; end those that go on."""
        self.history.clear()
        self.oldest = self.version + 1
        self.tell(None)

    def _happened(self, path: str, kind: str) -> None:
        event = {"type": kind, "object": copy.deepcopy(self.objects[path])}
        self.history.append((path, event))
        self.tell(event, path)

    def config_map(self, name: str, **data: str) -> str:
        """Write a ConfigMap and return its path."""
        path = CONFIG_MAPS.path("default", name)
        self.put(path, {"metadata": {"name": name, "namespace": "default"}, "data": data})
        return path

    def bookmark(self, annotations: Object | None = None) -> Object:
        metadata = {"resourceVersion": str(self.version), "annotations": annotations or {}}
        return {"type": "BOOKMARK", "object": {"metadata": metadata}}

    def tell(self, event: Object | Exception | None, path: str = "") -> None:
        """Send an event to all watches of a path, or to all; an exception breaks them, None ends them."""
        for mailbox in self.watches:
            if not path or mailbox.watches(path):
                mailbox.put_nowait(copy.deepcopy(event))


class World:
    """An informer of ConfigMaps in front of a Memory, and what its handler was told."""

    def __init__(self, **fields: Any) -> None:
        self.api = Memory()
        self.connection = Connection(self.api)
        self.restarts = Counter(
            "restarts_total", "Restarts.", ("resource", "reason"), registry=CollectorRegistry()
        )
        backoff = FullJitter(random.Random(7), first=0.002, most=0.01)
        self.informer = Informer(
            self.connection, Selection(CONFIG_MAPS), self.restarts, backoff=backoff, **fields
        )
        self.heard: list[tuple[Object | None, Object | None]] = []
        self.informer.handlers.append(lambda old, new: self.heard.append((old, new)))

    def news(self) -> list[tuple[str, str]]:
        """What happened to which object, since the last call."""
        told = [
            ("changed" if old and new else "came" if new else "went", (new or old or {})["metadata"]["name"])
            for old, new in self.heard
        ]
        self.heard.clear()
        return told

    def restarted(self) -> dict[str, float]:
        """How often the watch was begun again, by reason."""
        samples = [sample for metric in self.restarts.collect() for sample in metric.samples]
        return {one.labels["reason"]: one.value for one in samples if one.name.endswith("_total")}

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        while not condition():
            await asyncio.sleep(0.001)

    async def same(self) -> None:
        """Wait until the copy is what the API server holds."""
        await self.until(lambda: self.copied() == self.held())

    def copied(self) -> dict[str, Any]:
        return {key.name: (self.informer.cache.find(key) or {}).get("data") for key in self.informer.cache}

    def held(self) -> dict[str, Any]:
        return {one["metadata"]["name"]: one.get("data") for one in self.api.objects.values()}


@pytest.fixture
def memory() -> Memory:
    """An empty API server."""
    return Memory()


@pytest.fixture(scope="session")
def scene() -> Callable[..., None]:
    """Play a scene with an informer that runs: `scene(play, silence=...)`."""

    def played(play: Callable[[World], Awaitable[None]], **fields: Any) -> None:
        async def main() -> None:
            world = World(**fields)
            async with asyncio.timeout(20):
                running = asyncio.create_task(world.informer.run())
                try:
                    await play(world)
                finally:
                    running.cancel()
                    await asyncio.gather(running, return_exceptions=True)

        asyncio.run(main())

    return played


@pytest.fixture
def unreachable() -> Exception:
    """What a broken connection raises."""
    return UnreachableError("the connection broke")
