"""Changes to a job by YAML path, as `fl-submit fork --set` takes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from fl_core.errors import SpecError
from job_generator.problems import dotted
from job_generator.schema import Path, alternatives
from job_generator.source import Document, parse
from job_generator.spec import FLJob

STEP: Final = re.compile(r"(?P<name>[^.\[\]=\s]+)|\[(?P<number>\d+)\]")
OWN: Final = (("metadata",), ("apiVersion",), ("kind",), ("status",), ("spec", "initialModel"))
"""What a fork has of its own, or cannot have otherwise."""


def fork_of(
    before: dict[str, Any], changes: Sequence[str], *, name: str | None, origin: dict[str, Any]
) -> FLJob:
    """Another job like the one before, with these changes, that goes on from `origin`, its `spec.initialModel`.

    Refuses one that has no round left to train.
    """
    document = amended(before, changes)
    metadata = {key: value for key, value in before["metadata"].items() if key != "uid"}
    document.value["metadata"] = {**metadata, **({"name": name} if name else {})}
    document.value["spec"]["initialModel"] = origin
    rounds, done = document.value["spec"].get("rounds"), int(origin["round"])
    if isinstance(rounds, int) and rounds <= done:
        raise SpecError(
            f"spec.rounds: {rounds} counts all rounds, and the fork begins after round {done}: none is left to train; "
            f"add --set rounds={done + 1}, or more"
        )
    job = document.job()
    uri = job.spec.server.storage.uri
    if uri and uri == before["spec"].get("server", {}).get("storage", {}).get("uri"):
        raise SpecError(
            f"spec.server.storage.uri: {uri} is the parent's, and a fork needs one of its own, as with "
            f"--set server.storage.uri={uri}-2"
        )
    return job


def not_kept(parent: str, number: int, there: Sequence[int], *, every: int, keep: int) -> str:
    """Why nothing can go on from this round of a parent, the rounds whose checkpoints are there, and what helps."""
    if not there:
        return f"{parent} has no checkpoint yet; a fork goes on from one"
    rounds = f"round{'s' if len(there) > 1 else ''} {alternatives([str(one) for one in there], last='and')}"
    return (
        f"{parent} has no checkpoint of round {number}, but of {rounds}: everyRounds is {every} and "
        f"keep is {keep} in spec.server.checkpoint; set keep higher in a job that is to be forked from "
        "earlier rounds"
    )


def amended(value: Any, changes: Sequence[str]) -> Document:  # noqa: ANN401 - any JSON value
    """A job's map with each `path=value` in it; null removes a field. The document knows which change wrote what."""
    places: dict[Path, str] = {}
    for change in changes:
        path, new = _parsed(change)
        places |= {path[:end]: f"--set {change}" for end in range(2, len(path) + 1)}
        value = _with(value, path, new, done=())
    return Document(value, places)


def _parsed(change: str) -> tuple[Path, Any]:
    """The whole path, with or without `spec.` before it, and the value as YAML reads it."""
    text, equals, raw = change.partition("=")
    steps = [one.group("name") or int(one.group("number")) for one in STEP.finditer(text)]
    if not equals or not steps or dotted(tuple(steps)) != text.strip():
        raise SpecError(f"--set {change}: expected path=value, such as rounds=30 or strategy.name=fedprox")
    path = _whole(tuple(steps))
    if path == ("spec",) or any(path[: len(own)] == own for own in OWN):
        raise SpecError(
            f"--set {change}: {dotted(path)} is not for a fork to change; expected a field of the spec"
        )
    return path, parse(f"value: {raw}", name=f"--set {change}").value.get("value")


def _whole(path: Path) -> Path:
    """The path from the document's root: what begins with none of its fields is of the spec."""
    return path if path[0] in {"spec", *(own[0] for own in OWN)} else ("spec", *path)


def _with(value: Any, path: Path, new: Any, *, done: Path) -> Any:  # noqa: ANN401 - any JSON value
    """A copy with another value at this path; maps that are not there are made, for the schema to judge."""
    if not path:
        return new
    first, *rest = path
    if isinstance(first, int):
        if not isinstance(value, list) or first >= len(value):
            raise SpecError(f"--set {dotted((*done, *path))}: there is no {dotted((*done, first))}")
        inner = _with(value[first], tuple(rest), new, done=(*done, first))
        return [*value[:first], inner, *value[first + 1 :]]
    if value is not None and not isinstance(value, dict):
        raise SpecError(f"--set {dotted((*done, *path))}: {dotted(done)} is {value!r}, not a map")
    copy = dict(value or {})
    inner = _with(copy.get(first), tuple(rest), new, done=(*done, first))
    if inner is None:
        copy.pop(first, None)
    else:
        copy[first] = inner
    return copy
