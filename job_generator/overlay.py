"""Laying a partial pod template over a generated one.

Maps merge and `null` removes, as in a job's files (RFC 7386); the lists of Kubernetes whose items have a name
merge by it; every other value replaces.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
}
"""The lists that merge, and the field by which."""


def overlaid(below: Any, over: Any, *, field: str = "") -> Any:  # noqa: ANN401 - any JSON value
    """`below` with `over` laid on it; neither is changed."""
    if isinstance(over, Mapping):
        return _maps(below if isinstance(below, Mapping) else {}, over)
    if field in KEYS and isinstance(over, list):
        return _lists(below if isinstance(below, list) else [], over, key=KEYS[field])
    return over


def _maps(below: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = {name: value for name, value in below.items() if over.get(name, ...) is not None}
    for name, value in over.items():
        if value is not None:
            result[name] = overlaid(below.get(name), value, field=name)
    return result


def _lists(below: list[Any], over: list[Any], *, key: str) -> list[Any]:
    """The items below in their order, those that are named above changed, and then the new ones."""
    result = list(below)
    places = {item[key]: place for place, item in enumerate(below) if _named(item, key)}
    for item in over:
        if _named(item, key) and item[key] in places:
            place = places[item[key]]
            result[place] = overlaid(result[place], item)
            continue
        if _named(item, key):
            places[item[key]] = len(result)
        result.append(overlaid({}, item))
    return result


def _named(item: Any, key: str) -> bool:  # noqa: ANN401 - any JSON value
    return isinstance(item, Mapping) and isinstance(item.get(key), str)
