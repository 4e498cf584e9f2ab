"""Reading a job from its files: YAML with line numbers, merged in order, every mistake found at once.

Files merge as in RFC 7386 (JSON Merge Patch): maps merge, everything else replaces, null removes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
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
DEEPEST = 64
"""Levels of a job: enough for anything written by hand, and the end of an alias within itself."""
WHOLE_NUMBERS = range(-(2**63), 2**63)
"""Those of Kubernetes; larger ones would be rounded there."""
JOB_SHAPE = "a map with apiVersion, kind, metadata and spec"
YAML_TAG = "tag:yaml.org,2002:"


def load_job(files: Sequence[File]) -> FLJob:
    """Read, merge and check a job; raises InvalidJobError with all that is wrong."""
    return merged(files).job()


def merged(files: Sequence[File]) -> Document:
    """Read a job's files and lay each over those before it."""
    first, *others = map(read, files)
    return reduce(Document.merged, others, first)


@dataclass(frozen=True, slots=True)
class Document:
    """A value as JSON has it, and where each part of it was written."""

    value: Any = field(default_factory=dict)
    places: dict[Path, str] = field(default_factory=dict)

    def merged(self, over: Document) -> Document:
        """This document with another one laid over it."""
        kept = {path: place for path, place in self.places.items() if not _replaced(over.value, path)}
        return Document(_merged(self.value, over.value), {**kept, **over.places})

    def job(self) -> FLJob:
        """The job that is written here; raises InvalidJobError with all that is wrong."""
        job, problems = None, []
        try:
            job = FLJob.model_validate_json(json.dumps(self.value), strict=True)
        except ValidationError as error:
            problems = [of_schema(details, self.value) for details in error.errors(include_url=False)]
        problems += broken(self.value, wrong=[problem.path for problem in problems])
        if job is None or problems:
            raise InvalidJobError(self.placed(problems))
        return job

    def placed(self, problems: Sequence[Problem]) -> list[Problem]:
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


def read(file: File, *, expected: str = JOB_SHAPE) -> Document:
    """Read one YAML file; `expected` says in a message what it should hold."""
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise SpecError(f"{file} cannot be read: {error.strerror}") from error
    if len(data) > LARGEST_FILE:
        raise SpecError(f"{file} is larger than {LARGEST_FILE:,} bytes; a job is a short text")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SpecError(f"{file}:{line}: this is not UTF-8: {error.reason}") from error
    return parse(text, name=str(file), expected=expected)


def parse(text: str, *, name: str, expected: str = JOB_SHAPE) -> Document:
    """Read YAML text; `name` stands for the file in messages."""
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SpecError(f"{name}{line}: this is not YAML: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        where = text.count("\n", 0, error.position) + 1
        raise SpecError(f"{name}:{where}: this is not YAML: it holds {text[error.position]!a}") from error
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        raise SpecError(f"{name}: this is not YAML: {error}") from error
    builder = _Builder(name)
    value = builder.build(root, ()) if root is not None else None
    if not isinstance(value, dict):
        raise InvalidJobError([Problem((), f"expected {expected}", name)])
    if builder.problems:
        raise InvalidJobError(builder.problems)
    return Document(value, builder.places)


class _Loader(yaml.SafeLoader):
    """YAML as the Kubernetes tools read it: 1e-5 is a number; a date, 1:30 and = are texts."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.removeprefix(YAML_TAG) in {"bool", "null"}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    f"{YAML_TAG}int",
    re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    f"{YAML_TAG}float",
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
        if len(path) > DEEPEST:
            raise SpecError(f"{place}: more than {DEEPEST} levels; a job is a short text")
        match node:
            case yaml.MappingNode(tag=tag) if tag == f"{YAML_TAG}map":
                return {key: self.build(child, (*path, key)) for key, child in self._fields(node, path)}
            case yaml.SequenceNode(tag=tag) if tag == f"{YAML_TAG}seq":
                return [self.build(child, (*path, index)) for index, child in enumerate(node.value)]
            case yaml.ScalarNode():
                return self._scalar(node, path, place)
        message = f"{_tag(node)} is not accepted; expected a JSON value"
        self.problems.append(Problem(path, message, place))
        return None

    def _fields(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, yaml.Node]]:
        seen: dict[str, int] = {}
        for key, child in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            place = f"{self.name}:{line}"
            if not isinstance(key, yaml.ScalarNode) or not _unicode(name):
                self.problems.append(Problem(path, "a field's name must be a text", place))
                continue
            if name in seen:
                message = f"stands twice, first in line {seen[name]}; expected once"
                self.problems.append(Problem((*path, name), message, place))
                continue
            seen[name] = line
            self.places[*path, name] = place
            yield name, child

    def _scalar(self, node: yaml.ScalarNode, path: Path, place: str) -> Any:  # noqa: ANN401 - any JSON value
        try:
            value = self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, LookupError, AttributeError):  # a text that its tag does not fit
            value = ...
        match value:
            case None | bool():
                return value
            case int() if value in WHOLE_NUMBERS:
                return value
            case float() if math.isfinite(value):
                return value
            case str() if _unicode(value):
                return value
            case int():
                wanted = "a whole number of 64 bits"
            case float():
                wanted = "a finite number"
            case _:
                wanted = f"a JSON value, which {_tag(node)} does not make of it"
        given = shown(node.value) if _unicode(node.value) else ascii(node.value)
        given = given.strip('"') if isinstance(value, int | float) else given
        self.problems.append(Problem(path, f"{given} is not accepted; expected {wanted}", place))
        return None


def _tag(node: yaml.Node) -> str:
    """The tag as people write it: `!!binary`."""
    return str(node.tag).replace(YAML_TAG, "!!")


def _unicode(text: str) -> bool:
    """Tell whether a text can be written: no half of a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _replaced(over: Any, path: Path) -> bool:  # noqa: ANN401 - any JSON value
    """Tell whether what stood at this path is gone under the document laid over it."""
    for step in path:
        if not isinstance(over, dict):
            return True
        if step not in over:
            return False
        over = over[step]
    return True


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
