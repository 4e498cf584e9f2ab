"""Reading a job from its files: YAML with line numbers, merged in order, every mistake found at once.

Files merge as in RFC 7386 (JSON Merge Patch): maps merge, everything else replaces, null removes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as File
from typing import Any

import yaml
from pydantic import ValidationError

from fl_core.errors import SpecError
from job_generator.problems import InvalidJobError, Problem, of_schema, shown
from job_generator.rules import broken
from job_generator.schema import Path
from job_generator.spec import FLJob

LARGEST_FILE = 1 << 20
MOST_NODES = 100_000


def load_job(files: Sequence[File]) -> FLJob:
    """Read, merge and check a job; raises InvalidJobError with all that is wrong."""
    whole = Document()
    for file in files:
        whole = whole.merged(read(file))
    return whole.job()


@dataclass(frozen=True, slots=True)
class Document:
    """A value as JSON has it, and where each part of it was written."""

    value: Any = field(default_factory=dict)
    places: dict[Path, str] = field(default_factory=dict)

    def merged(self, over: Document) -> Document:
        """This document with another one laid over it."""
        return Document(_merged(self.value, over.value), {**self.places, **over.places})

    def job(self) -> FLJob:
        """The job that is written here; raises InvalidJobError with all that is wrong."""
        job, problems = None, []
        try:
            job = FLJob.model_validate_json(json.dumps(self.value), strict=True)
        except ValidationError as error:
            problems = [of_schema(details, self.value) for details in error.errors(include_url=False)]
        problems += broken(self.value, wrong=[problem.path for problem in problems])
        if job is None or problems:
            raise InvalidJobError(self._placed(problems))
        return job

    def _placed(self, problems: Sequence[Problem]) -> list[Problem]:
        """The problems with their places, in the order of the files and their lines."""
        order = {path: number for number, path in enumerate(self.places)}
        known = {problem.path: self._nearest(problem.path) for problem in problems}
        ordered = sorted(problems, key=lambda problem: order.get(known[problem.path], len(order)))
        return [replace(problem, place=self.places.get(known[problem.path], "")) for problem in ordered]

    def _nearest(self, path: Path) -> Path:
        """The path itself, or what it would stand in."""
        while path and path not in self.places:
            path = path[:-1]
        return path


def read(file: File) -> Document:
    """Read one YAML file."""
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise SpecError(f"{file} cannot be read: {error.strerror}") from error
    if len(data) > LARGEST_FILE:
        raise SpecError(f"{file} is larger than {LARGEST_FILE:,} bytes; a job is a short text")
    return parse(data.decode("utf-8", errors="replace"), name=str(file))


def parse(text: str, *, name: str) -> Document:
    """Read YAML text; `name` stands for the file in messages."""
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SpecError(f"{name}{line}: this is not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise SpecError(f"{name}: this is not YAML: {error}") from error
    builder = _Builder(name)
    value = builder.build(root, ()) if root is not None else None
    if not isinstance(value, dict):
        raise InvalidJobError([Problem((), "expected a map with apiVersion, kind, metadata and spec", name)])
    if builder.problems:
        raise InvalidJobError(builder.problems)
    return Document(value, builder.places)


class _Loader(yaml.SafeLoader):
    """YAML as the Kubernetes tools read it: 1e-5 is a number, and a date is a text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


class _Builder:
    """Turns YAML nodes into JSON values, and notes where each stood."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.places: dict[Path, str] = {}
        self.problems: list[Problem] = []
        self._scalars = _Loader("")

    def build(self, node: yaml.Node, path: Path) -> Any:  # noqa: ANN401 - any JSON value
        place = f"{self.name}:{node.start_mark.line + 1}"
        self.places.setdefault(path, place)
        if len(self.places) > MOST_NODES:
            raise SpecError(f"{place}: more than {MOST_NODES:,} values; a job is a short text")
        if isinstance(node, yaml.MappingNode):
            return {key: self.build(child, (*path, key)) for key, child in self._fields(node, path)}
        if isinstance(node, yaml.SequenceNode):
            return [self.build(child, (*path, index)) for index, child in enumerate(node.value)]
        return self._scalar(node, path, place)

    def _fields(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, yaml.Node]]:
        seen: dict[str, int] = {}
        for key, child in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            place = f"{self.name}:{line}"
            if not isinstance(key, yaml.ScalarNode):
                self.problems.append(Problem(path, "a field's name must be a text", place))
                continue
            if name in seen:
                message = f"stands twice, first in line {seen[name]}; expected once"
                self.problems.append(Problem((*path, name), message, place))
                continue
            seen[name] = line
            self.places[*path, name] = place
            yield name, child

    def _scalar(self, node: yaml.Node, path: Path, place: str) -> Any:  # noqa: ANN401 - any JSON value
        try:
            value = self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            reason = error.problem if isinstance(error, yaml.MarkedYAMLError) else error
            self.problems.append(Problem(path, f"{shown(node.value)} is not accepted: {reason}", place))
            return None
        if isinstance(value, float) and not math.isfinite(value):
            self.problems.append(
                Problem(path, f"{node.value} is not accepted; expected a finite number", place)
            )
            return None
        if value is None or isinstance(value, bool | int | float | str):
            return value
        self.problems.append(
            Problem(path, f"{shown(node.value)} is not accepted; expected a JSON value", place)
        )
        return None


def _merged(below: Any, over: Any) -> Any:  # noqa: ANN401 - any JSON value
    if not isinstance(over, dict):
        return over
    result = dict(below) if isinstance(below, dict) else {}
    for name, value in over.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result
