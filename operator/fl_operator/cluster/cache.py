"""What is known of one kind of objects: by place, and by owner.

A dictionary takes fifty times the memory of its compressed form; so the objects that were used last are at hand, and
the others are packed until somebody asks for them. Of all forms Python's own (`marshal`) takes the least time. Objects
of a kind are much alike: what they have in common is kept once and packed only where they differ.
"""

from __future__ import annotations

import marshal
import sys
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, NamedTuple, TypeVar

from fl_operator.cluster.resources import Key, Object, key_of, version_of

MOST_AT_HAND: Final = 16
"""Objects of a kind that are not packed."""
MOST_COMMON: Final = 1 << 14
"""Bytes of the sample against which objects are packed: of three Jobs, or most of an attempt."""

UNSHARED: Final = 2
"""The last form of `marshal` in which equal values have equal bytes, however they are shared in memory."""

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class Recent(Generic[K, V]):
    """The `most` values that were used last; `dropped` is told of each that has to go."""

    most: int
    dropped: Callable[[K, V], None] = lambda *_: None
    _values: OrderedDict[K, V] = field(default_factory=OrderedDict)

    def get(self, key: K) -> V | None:
        """The value of a key, which is the newest from now on."""
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep a value; the one that was not used for longest may have to go."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self.most:
            self.dropped(*self._values.popitem(last=False))

    def pop(self, key: K) -> None:
        """Forget a key, unasked."""
        self._values.pop(key, None)

    def values(self) -> Iterable[V]:
        """All values, the newest last."""
        return self._values.values()


class _Entry(NamedTuple):
    """What is at hand of every object."""

    version: int
    mark: int
    """A hash of all that is kept but the version."""
    owners: tuple[str, ...]


class Cache:
    """Objects by key, with an index by the UIDs of their owners; objects in it must never be changed."""

    def __init__(self, at_hand: int = MOST_AT_HAND) -> None:
        self._packed: dict[Key, bytes] = {}
        """Without their versions, which change more often than all else."""
        self._common = b""
        """A sample of the objects, taken when the first of them is packed."""
        self._at_hand: Recent[Key, Object] = Recent(at_hand, self._pack)
        self._entries: dict[Key, _Entry] = {}
        self._owned: dict[str, set[Key]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Key]:
        return iter(tuple(self._entries))

    def version(self, key: Key) -> int | None:
        """The version of the object at this place."""
        entry = self._entries.get(key)
        return entry.version if entry else None

    def find(self, key: Key) -> Object | None:
        """The object at this place."""
        if (thing := self._at_hand.get(key)) is not None or key not in self._packed:
            return thing
        unpacked = zlib.decompressobj(zdict=self._common).decompress(self._packed[key])
        found: Object = marshal.loads(unpacked)  # noqa: S302 - written below
        if version := self._entries[key].version:
            found["metadata"]["resourceVersion"] = str(version)
        self._at_hand.put(key, found)
        return found

    def owned(self, uid: str) -> list[Object]:
        """The objects that name this owner, in the order of their keys."""
        found = (self.find(key) for key in sorted(self._owned.get(uid, ())))
        return [thing for thing in found if thing is not None]

    def renew(self, thing: Object) -> bool:
        """Take over the version of an object of which nothing else has changed; False where something has."""
        key = key_of(thing)
        entry = self._entries.get(key)
        if entry is None or entry.mark != _mark(thing):
            return False
        self._entries[key] = entry._replace(version=version_of(thing))
        if self._at_hand.get(key) is not None:
            self._at_hand.put(key, thing)
        return True

    def put(self, thing: Object) -> None:
        """Keep an object in the place of the one that was there."""
        namespace, name = key_of(thing)
        key = Key(sys.intern(namespace), name)
        self.remove(key)
        self._entries[key] = _Entry(version_of(thing), _mark(thing), _owners(thing))
        self._at_hand.put(key, thing)
        for uid in self._entries[key].owners:
            self._owned.setdefault(uid, set()).add(key)

    def remove(self, key: Key) -> None:
        """Forget an object, if there is one."""
        self._at_hand.pop(key)
        self._packed.pop(key, None)
        if (entry := self._entries.pop(key, None)) is None:
            return
        for uid in entry.owners:
            keys = self._owned[uid]
            keys.discard(key)
            if not keys:
                del self._owned[uid]

    def _pack(self, key: Key, thing: Object) -> None:
        if key in self._packed:
            return
        if not self._common:
            sample = (thing, *self._at_hand.values())
            self._common = b"".join(marshal.dumps(_versionless(one)) for one in sample)[-MOST_COMMON:]
        packing = zlib.compressobj(level=1, zdict=self._common)
        self._packed[key] = packing.compress(marshal.dumps(_versionless(thing))) + packing.flush()


def _mark(thing: Object) -> int:
    """A hash of an object without its version, the same for the same JSON."""
    return hash(marshal.dumps(_versionless(thing), UNSHARED))


def _versionless(thing: Object) -> Object:
    metadata = {name: value for name, value in thing["metadata"].items() if name != "resourceVersion"}
    return {**thing, "metadata": metadata}


def _owners(thing: Mapping[str, Any]) -> tuple[str, ...]:
    owners = thing["metadata"].get("ownerReferences") or ()
    return tuple({sys.intern(owner["uid"]) for owner in owners})
