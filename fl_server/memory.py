"""What strategy and stages remember between rounds, taken apart for a checkpoint and put together again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fl_core.errors import JobError
from fl_core.weights import Array

States = Mapping[str, Mapping[str, Any]]
"""By owner (`strategy`, or a stage's number), the state that it was last seen with."""


def apart(states: States) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays, each as `owner/path`, and the rest as JSON; refuses what is neither."""
    arrays: dict[str, Array] = {}

    def rest(value: Any, path: str) -> Any:  # noqa: ANN401 - any part of a state
        match value:
            case np.ndarray():
                arrays[path] = value
                return {"array": path}
            case Mapping():
                return {
                    "map": {str(name): rest(item, f"{path}/{name}") for name, item in sorted(value.items())}
                }
            case bool() | int() | float() | str() | None:
                return {"value": value}
        raise JobError(
            f"the state {path} is a {type(value).__name__}, which no checkpoint can hold; keep arrays, "
            "numbers, texts and maps of them"
        )

    return arrays, {owner: rest(state, owner) for owner, state in sorted(states.items())}


def together(arrays: Mapping[str, Array], parts: Mapping[str, Any]) -> dict[str, Any]:
    """The states that `apart` took apart."""

    def whole(part: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any part of a state
        if "array" in part:
            return arrays[part["array"]]
        if "map" in part:
            return {name: whole(item) for name, item in part["map"].items()}
        return part["value"]

    return {owner: whole(part) for owner, part in parts.items()}
