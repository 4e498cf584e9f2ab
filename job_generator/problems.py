"""What is wrong with a job: the file and line, the YAML path, the value, what would be accepted."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import ErrorDetails

from fl_core.errors import SpecError
from fl_core.extensions import known
from job_generator import absent
from job_generator.schema import Path, alternatives, expectation, node, several

LONGEST_VALUE = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that the job's author must change."""

    path: Path
    message: str
    place: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.place, dotted(self.path), self.message) if part)


class InvalidJobError(SpecError):
    """Everything that is wrong with a job, one line each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def dotted(path: Path) -> str:
    """`spec.compression[0].name`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def shown(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """A value as YAML would hold it, cut to a readable length."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def of_schema(error: ErrorDetails, document: Any) -> Problem:  # noqa: ANN401 - any JSON value
    """Say what pydantic found in the words of the FLJob."""
    path = _path(error["loc"], document)
    match error["type"]:
        case "extra_forbidden":
            return Problem(path, _unknown_field(path, document, error["input"]))
        case "missing":
            return Problem(path, f"is missing; expected {expectation(node(path, document) or {})}")
        case "unknown_name":
            return _unknown_name(path, error)
    schema = node(path, document) or {}
    hint = nearest(str(error["input"]), schema.get("enum", []))
    return Problem(path, f"{shown(error['input'])} is not accepted; expected {expectation(schema)}{hint}")


def _path(location: Sequence[int | str], document: Any) -> Path:  # noqa: ANN401 - any JSON value
    """The error's place without the names of the kinds that pydantic puts into it."""
    path: Path = ()
    named = False
    for step in location:
        if not named:
            path = (*path, step)
        named = not named and several(path, document)
    return path


def _unknown_field(path: Path, document: Any, value: Any) -> str:  # noqa: ANN401 - any JSON values
    if why := absent.field(str(path[-1]), value):
        return f"there is no such field: it {why}; leave it out"
    fields = list((node(path[:-1], document) or {}).get("properties", {}))
    known_ones = alternatives(sorted(fields)) if fields else "a map without fields, {}"
    return f"there is no such field{nearest(str(path[-1]), fields)}; expected {known_ones}"


def _unknown_name(path: Path, error: ErrorDetails) -> Problem:
    names = known(error["ctx"]["within"])
    own = f"{alternatives([*names, 'a class of your own, package.module:Class'])}"
    given = error["input"]
    if not isinstance(given, dict):
        return Problem(path, f"{shown(given)} is not accepted; expected a map such as {{name: {names[0]}}}")
    if "name" not in given:
        return Problem((*path, "name"), f"is missing; expected {own}")
    name = given["name"]
    if why := absent.name(str(name)):
        return Problem((*path, "name"), f"{shown(name)} is not to be had: it {why}; expected {own}")
    return Problem((*path, "name"), f"{shown(name)} is unknown{nearest(str(name), names)}; expected {own}")


def nearest(word: str, words: Sequence[object]) -> str:
    """Ask in brackets whether the likest of these words was meant; nothing where none is like it."""
    lower = {str(known).lower(): known for known in words}
    near = difflib.get_close_matches(word.lower(), lower, n=1)
    return f" (did you mean {lower[near[0]]}?)" if near else ""
