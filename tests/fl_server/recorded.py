"""What a server's storage has on record."""

from __future__ import annotations

from typing import Any

from fl_server.storage import Storage


def recorded(storage: Storage) -> list[dict[str, Any]]:
    """The line of each round that stands, read as a server does that starts; an unfinished last one is cut off."""
    return storage._record.read().rows()
