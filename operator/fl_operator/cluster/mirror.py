"""The live copies of all kinds that the operator follows, in all namespaces that it watches."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from prometheus_client import Counter

from fl_operator.cluster.connection import Connection
from fl_operator.cluster.informer import Informer, Selection
from fl_operator.cluster.resources import Key, Object, Resource, key_of, resource_of


class Mirror:
    """One informer per kind and watched namespace; without namespaces, one per kind for the whole cluster."""

    def __init__(
        self,
        connection: Connection,
        selections: Iterable[Selection],
        *,
        namespaces: Sequence[str],
        restarts: Counter,
    ) -> None:
        self._informers: dict[Resource, dict[str, Informer]] = {
            selection.resource: {
                namespace: Informer(connection, replace(selection, namespace=namespace), restarts)
                for namespace in namespaces or ("",)
            }
            for selection in selections
        }

    def informers(self, resource: Resource | None = None) -> Iterator[Informer]:
        """The informers of a kind, or all."""
        for kind, informers in self._informers.items():
            if resource is None or kind == resource:
                yield from informers.values()

    def find(self, resource: Resource, key: Key) -> Object | None:
        """An object, if there is one; it must not be changed."""
        informer = self._of(resource, key.namespace)
        return informer.cache.find(key) if informer else None

    def owned(self, resource: Resource, uid: str) -> list[Object]:
        """The objects of a kind that name this owner, in the order of their keys; they must not be changed."""
        return [one for informer in self.informers(resource) for one in informer.cache.owned(uid)]

    def keys(self, resource: Resource) -> Iterator[Key]:
        """Where the objects of a kind are."""
        for informer in self.informers(resource):
            yield from informer.cache

    def objects(self, resource: Resource) -> Iterator[Object]:
        """The objects of a kind; they must not be changed."""
        yield from filter(None, (self.find(resource, key) for key in self.keys(resource)))

    def writing(self, thing: Object) -> AbstractContextManager[None]:
        """While a write of our own is on its way, which is no news to us."""
        informer = self._of(resource_of(thing), key_of(thing).namespace)
        return informer.writing(key_of(thing)) if informer else nullcontext()

    def learn(self, thing: Object) -> None:
        """Take over the answer to a write of our own, before the watch tells of it."""
        namespace = thing["metadata"].get("namespace", "")
        if informer := self._of(resource_of(thing), namespace):
            informer.learn(thing)

    async def run(self) -> None:
        """Follow the API server until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self.informers():
                group.create_task(informer.run())

    async def synced(self) -> None:
        """Wait until every copy has been whole once."""
        for informer in self.informers():
            await informer.synced.wait()

    def _of(self, resource: Resource, namespace: str) -> Informer | None:
        informers = self._informers.get(resource, {})
        return informers.get(namespace) or informers.get("")
