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
    """The arrays under numbers, and the rest as JSON; refuses what is neither.

    Floats are written in hexadecimal, because JSON knows neither 1.0 apart from 1 nor infinity.
    """
    arrays: dict[str, Array] = {}

    def rest(value: Any, path: str) -> dict[str, Any]:  # noqa: ANN401 - any part of a state
        match value:
            case np.ndarray() | np.generic():
                name = str(len(arrays))
                arrays[name] = np.asarray(value)
                return {"array": name}
            case Mapping() if all(isinstance(name, str) for name in value):
                return {"map": {key: rest(value[key], f"{path}/{key}") for key in sorted(value)}}
            case list() | tuple():
                return {"list": [rest(item, f"{path}/{place}") for place, item in enumerate(value)]}
            case float():
                return {"float": value.hex()}
            case bool() | int() | str() | None:
                return {"value": value}
        raise JobError(
            f"the state {path} is a {type(value).__name__}, which no checkpoint can hold; keep arrays, "
            "numbers, texts, lists, and maps of them by text"
        )

    return arrays, {owner: rest(state, owner) for owner, state in sorted(states.items())}


def together(arrays: Mapping[str, Array], parts: Mapping[str, Any]) -> dict[str, Any]:
    """The states that `apart` took apart; what was a tuple is a list."""

    def whole(part: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any part of a state
        match part:
            case {"array": name}:
                return arrays[name]
            case {"map": items}:
                return {name: whole(item) for name, item in items.items()}
            case {"list": items}:
                return [whole(item) for item in items]
            case {"float": text}:
                return float.fromhex(text)
        return part["value"]

    return {owner: whole(part) for owner, part in parts.items()}
