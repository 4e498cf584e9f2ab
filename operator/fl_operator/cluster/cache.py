"""What is known of one kind of objects: by place, and by owner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fl_operator.cluster.resources import Key, Object, key_of


class Cache:
    """Objects by key, with an index by the UIDs of their owners; objects in it must never be changed."""

    def __init__(self) -> None:
        self._objects: dict[Key, Object] = {}
        self._owned: dict[str, set[Key]] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Key]:
        return iter(tuple(self._objects))

    def find(self, key: Key) -> Object | None:
        """The object at this place."""
        return self._objects.get(key)

    def owned(self, uid: str) -> list[Object]:
        """The objects that name this owner, in the order of their keys."""
        return [self._objects[key] for key in sorted(self._owned.get(uid, ()))]

    def put(self, thing: Object) -> Object | None:
        """Keep an object and return the one that was there."""
        key = key_of(thing)
        old = self.remove(key)
        self._objects[key] = thing
        for uid in _owners(thing):
            self._owned.setdefault(uid, set()).add(key)
        return old

    def remove(self, key: Key) -> Object | None:
        """Forget an object and return it."""
        old = self._objects.pop(key, None)
        for uid in _owners(old) if old else ():
            keys = self._owned[uid]
            keys.discard(key)
            if not keys:
                del self._owned[uid]
        return old


def _owners(thing: Mapping[str, Any]) -> set[str]:
    return {owner["uid"] for owner in thing["metadata"].get("ownerReferences") or ()}
