"""Servers whose storage is in a store of objects, and what that store holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fl_server.checkpoints import Saved
from fl_server.objects import Folder
from fl_server.storage import Storage
from tests.conftest import plan_of
from tests.fl_server.recorded import recorded

PLAN = plan_of()


def server(folder: Path, uri: str, **changes: Any) -> Storage:
    """A server's storage in this folder."""
    return Storage(folder, changes.pop("plan", PLAN), store=uri, **changes)


def commit(one: Storage, number: int) -> None:
    """The round of this number, whose model holds it."""
    facts = {"round": number, "plan": PLAN.digest, "metrics": {}, "row": {}}
    one.checkpoints.save(Saved({"w": np.full(3, number, "f4")}, facts))
    one.record({"round": number, "result": "Committed"})


def committed(one: Storage) -> tuple[int, list[int]]:
    """The newest checkpoint's model, and the rounds on record."""
    found = one.checkpoints.newest()
    return int(found.weights["w"][0]) if found else 0, [row["round"] for row in recorded(one)]


def stored(uri: str) -> dict[str, bytes]:
    """All that the store holds."""
    root = Path(uri.removeprefix("file://"))
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def last(uri: str) -> dict[str, Any]:
    """The newest head."""
    name = max(name for name in stored(uri) if name.startswith("heads/"))
    return dict(json.loads(stored(uri)[name]))


class Watched(Folder):
    """A store that lets something happen before or after a call."""

    def __init__(self, uri: str, root: Path, happen: Callable[[str], None]) -> None:
        super().__init__(uri, root)
        self._happen = happen

    def put(self, name: str, content: bytes | Path) -> None:
        self._happen("put")
        super().put(name, content)
        self._happen("done")

    def create(self, name: str, content: bytes) -> bool:
        self._happen("create")
        made = super().create(name, content)
        self._happen("created")
        return made

    def names(self, prefix: str, *, after: str = "") -> list[str]:
        self._happen("list")
        return super().names(prefix, after=after)

    def read(self, name: str) -> Iterator[bytes]:
        self._happen("read")
        yield from super().read(name)

    def remove(self, names: Sequence[str]) -> None:
        self._happen("remove")
        super().remove(names)


def watched(one: Storage, happen: Callable[[str], None]) -> None:
    """Let this happen at each call of the store from here on."""
    patient = one._objects
    assert patient is not None
    patient.objects = Watched(patient.objects.uri, Path(patient.objects.uri.removeprefix("file://")), happen)
