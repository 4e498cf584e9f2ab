"""Whether a live object still is what it should be: each field that is wanted, and none that others added.

The API server fills in defaults and may write a value in another way (a quantity, `1.0` as `1`), so that only
what is wanted is compared, and what has been applied is remembered as the server wrote it.
"""

from __future__ import annotations

from typing import Any

Json = Any


def differs(wanted: Json, live: Json) -> bool:
    """Whether the live value lacks or changes something that is wanted; what is empty may be left out."""
    if wanted == live:
        return False
    if live is None:
        return bool(wanted)
    if isinstance(wanted, dict) and isinstance(live, dict):
        return any(differs(value, live.get(name)) for name, value in wanted.items())
    if isinstance(wanted, list) and isinstance(live, list) and len(wanted) == len(live):
        return any(differs(one, other) for one, other in zip(wanted, live, strict=True))
    return True


def projected(wanted: Json, live: Json) -> Json:
    """What the live value says of the fields that are wanted."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        return {name: projected(value, live.get(name)) for name, value in wanted.items()}
    if isinstance(wanted, list) and isinstance(live, list) and len(wanted) == len(live):
        return [projected(one, other) for one, other in zip(wanted, live, strict=True)]
    return live


def merged(live: Json, over: Json) -> Json:
    """The live value with another one laid over it, map by map."""
    if isinstance(live, dict) and isinstance(over, dict):
        return {**live, **{name: merged(live.get(name), value) for name, value in over.items()}}
    return over
