"""What the operator asks of the API: one method per verb, on plain dictionaries."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from fl_operator.cluster.resources import Key, Object, Resource, key_of, resource_of
from fl_operator.cluster.transport import APPLY, JSON, MERGE, METADATA, Request, Transport
from fl_operator.metrics import ClientMetrics
from fl_operator.pace import TokenBucket

FIELD_MANAGER = "fljob-operator"
_MANAGED = {"fieldManager": FIELD_MANAGER}
_DRY = {"dryRun": "All"}
_STRICT = {"fieldValidation": "Strict"}
"""A field that the kind does not have is refused, where it would be left out in silence."""
_PAGE = 500


class Wire(Protocol):
    """What a connection stands on: a Transport."""

    async def send(self, request: Request) -> Object:
        """The answer to a request."""

    def lines(self, request: Request) -> AsyncGenerator[Object]:
        """The JSON lines of a streamed answer."""

    async def close(self) -> None:
        """Close all connections."""


@dataclass(frozen=True, slots=True)
class Connection:
    """The verbs of the API; errors are those of `errors.py`."""

    wire: Wire
    is_urgent: bool = False

    @classmethod
    async def open(
        cls, kubeconfig: Path | None, *, rate: float, burst: int, metrics: ClientMetrics
    ) -> Connection:
        """Connect by a kubeconfig, or without one by this pod's service account; `rate` is requests per second."""
        bucket = TokenBucket(rate=rate, burst=burst)
        return cls(await Transport.open(kubeconfig, bucket=bucket, metrics=metrics))

    async def close(self) -> None:
        """Close all connections."""
        await self.wire.close()

    def urgent(self) -> Connection:
        """The same connection for requests that are neither paced nor repeated, as of a Lease."""
        return replace(self, is_urgent=True)

    async def read(self, resource: Resource, key: Key) -> Object:
        """One object."""
        return await self._send("GET", resource.path(*key))

    async def document(self, path: str, *, accept: str = JSON) -> Object:
        """A document that is no object of a kind, such as `/version` or the token keys of the cluster."""
        return await self._send("GET", path, accept=accept)

    async def objects(
        self, resource: Resource, *, namespace: str = "", labels: str = ""
    ) -> AsyncIterator[Object]:
        """All objects of a kind, page by page; for what is rare enough to need no watch."""
        query = {"limit": str(_PAGE), **({"labelSelector": labels} if labels else {})}
        while True:
            page = await self._send("GET", resource.path(namespace), query=query)
            for item in page["items"]:
                yield item
            query["continue"] = page["metadata"].get("continue") or ""
            if not query["continue"]:
                return

    async def create(self, thing: Object, *, dry: bool = False) -> Object:
        """Create an object that must not exist; a `dry` one is checked, its fields' names too, and nothing is kept.

        In earnest the API server leaves fields out that it does not know, as those of an attempt that is older than it.
        """
        path = resource_of(thing).path(key_of(thing).namespace)
        query = {**_MANAGED, **({**_DRY, **_STRICT} if dry else {})}
        return await self._send("POST", path, query=query, body=thing)

    async def apply(self, thing: Object, *, dry: bool = False) -> Object:
        """Create an object or change its fields to these (server-side apply; ours wins over other managers).

        A `dry` one answers what the object would be, and changes nothing.
        """
        path = resource_of(thing).path(*key_of(thing))
        query = {**_MANAGED, "force": "true", **(_DRY if dry else {})}
        return await self._send("PATCH", path, query=query, body=thing, content_type=APPLY)

    async def replace(self, thing: Object) -> Object:
        """Replace an object that has not changed since this `resourceVersion`; else ConflictError."""
        path = resource_of(thing).path(*key_of(thing))
        return await self._send("PUT", path, query=_MANAGED, body=thing)

    async def write_status(self, thing: Object) -> Object:
        """Replace the status of an object that has not changed since its `resourceVersion`; else ConflictError.

        `apiVersion`, `kind`, `metadata` (`namespace`, `name`, `resourceVersion`) and `status` are enough.
        """
        path = resource_of(thing).path(*key_of(thing), subresource="status")
        return await self._send("PUT", path, query=_MANAGED, body=thing)

    async def merge(self, resource: Resource, key: Key, change: Mapping[str, Any]) -> Object:
        """Change some fields of an object (JSON merge patch: null removes)."""
        return await self._send(
            "PATCH", resource.path(*key), query=_MANAGED, body=dict(change), content_type=MERGE
        )

    async def delete(
        self, resource: Resource, key: Key, *, uid: str, propagation: str = "Foreground"
    ) -> Object:
        """Delete the object of this UID and what it owns; ConflictError if another one has its name.

        In the foreground, since a plain deletion of a Job orphans its pods, and `Background` lets two run at once.
        """
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
            "preconditions": {"uid": uid},
        }
        return await self._send("DELETE", resource.path(*key), body=options)

    def watch(
        self, resource: Resource, *, namespace: str, query: Mapping[str, str], metadata_only: bool
    ) -> AsyncGenerator[Object]:
        """The events of a watch, as they come; `informer.py` is who should ask."""
        accept = METADATA if metadata_only else JSON
        return self.wire.lines(Request("GET", resource.path(namespace), query=query, accept=accept))

    async def _send(self, method: str, path: str, **fields: Any) -> Object:  # noqa: ANN401 - as in Request
        return await self.wire.send(Request(method, path, urgent=self.is_urgent, **fields))
