"""Whether a live object still is what it should be: each field that is wanted, and none that others added.

The API server fills in defaults and may write a value in another way (a quantity, `1.0` as `1`), so that only
what is wanted is compared, and the server is asked how it writes what looks changed.
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


def respelled(live: Json, wanted: Json, written: Json) -> Json:
    """The live value with what is wanted in each place where the API server `written` it in another way."""
    if wanted == written:
        return live
    if all(isinstance(one, dict) for one in (live, wanted, written)):
        names = [name for name in wanted if name in live or not written.get(name)]
        told = {name: respelled(live.get(name), wanted[name], written.get(name)) for name in names}
        return {**live, **told}
    if all(isinstance(one, list) and len(one) == len(wanted) for one in (live, wanted, written)):
        return [respelled(*three) for three in zip(live, wanted, written, strict=True)]
    return wanted if live == written else live
