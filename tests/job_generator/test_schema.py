from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from job_generator.schema import alternatives, chosen, expectation, job_schema, node, several

Schema = dict[str, Any]


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every schema within a schema, by where it stands."""
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from nodes(field, f"{path}.{name}")
    for kind in schema.get("oneOf", ()):
        yield from nodes(kind, path)
    for inner in (schema.get("items"), schema.get("additionalProperties")):
        if isinstance(inner, dict):
            yield from nodes(inner, f"{path}[]")


NODES = list(nodes(job_schema()))


def test_resolved() -> None:
    """The schema stands alone: no reference, no null, no title of pydantic's is left in it."""
    text = json.dumps(job_schema())
    assert [word for word in ("$ref", "$defs", "anyOf", '"null"', '"title": "') if word in text] == []
    assert len(NODES) > 40


def test_described() -> None:
    """Every field says what it is for, in a sentence."""
    bare = [
        path
        for path, schema in NODES
        if not path.endswith(("[]", ".name")) and not schema.get("description", "").strip().endswith(".")
    ]
    assert bare == []


def test_closed() -> None:
    """Every map says which fields it has, or that it takes any."""
    maps = [(path, schema) for path, schema in NODES if schema.get("type") == "object"]
    assert [path for path, schema in maps if "additionalProperties" not in schema] == []
    is_open = [path for path, schema in maps if schema["additionalProperties"] is not False]
    assert sorted(set(is_open)) == [
        ".metadata.annotations",
        ".metadata.labels",
        ".spec.aggregation",
        ".spec.compression[]",
        ".spec.privacy.mechanism",
        ".spec.program.config",
        ".spec.scheduler.template.metadata",
        ".spec.scheduler.template.spec",
        ".spec.selection.policy",
        ".spec.server.template.metadata",
        ".spec.server.template.spec",
        ".spec.sites[].template.metadata",
        ".spec.sites[].template.spec",
        ".spec.strategy",
        ".spec.workers.template.metadata",
        ".spec.workers.template.spec",
    ]


def test_kinds_are_named() -> None:
    """An editor asks for the name of a strategy, as the reader does."""
    kinds = [kind for _, schema in NODES for kind in schema.get("oneOf", ())]
    assert len(kinds) >= 7
    assert [kind for kind in kinds if "name" not in kind["required"]] == []


def test_node() -> None:
    """A path leads to its field; below a strategy, to that of the kind that the document names."""
    document = {"spec": {"strategy": {"name": "fedprox"}, "compression": [{"name": "float16"}]}}
    assert node(("spec", "rounds"), {}) == job_schema()["properties"]["spec"]["properties"]["rounds"]
    found = node(("spec", "strategy", "mu"), document)
    assert found is not None
    assert found["minimum"] == 0
    assert node(("metadata", "labels", "team"), {}) == {"type": "string"}


@pytest.mark.parametrize(
    "path",
    [
        ("x",),
        ("spec", "x"),
        ("spec", "x", "y"),
        ("spec", "rounds", "x"),
        ("spec", 0),
        ("spec", "strategy", "mu"),
        ("spec", "rounds", 0, "x"),
    ],
)
def test_no_node(path: tuple[str | int, ...]) -> None:
    """A path that leads nowhere leads to nothing, whatever the document is."""
    for document in ({}, {"spec": {"strategy": {"name": "fedavg"}}}, {"spec": []}, None, [1]):
        assert node(path, document) is None


def test_several() -> None:
    """Where a name chooses among kinds is known with and without the name."""
    assert several(("spec", "strategy"), {})
    assert several(("spec", "compression", 0), {"spec": {"compression": [3]}})
    assert not several(("spec", "strategy", "name"), {"spec": {"strategy": {"name": "fedavg"}}})
    assert not several(("spec", "nothing"), {})


def test_chosen() -> None:
    """A kind is found by its name, a class of the user's own by its colon, and none without a name."""
    strategy = job_schema()["properties"]["spec"]["properties"]["strategy"]
    assert "mu" in chosen(strategy, {"name": "fedprox"})["properties"]
    assert chosen(strategy, {"name": "a:B"})["additionalProperties"] is True
    for value in ({}, {"name": "zzz"}, {"name": 3}, None, [], "fedavg"):
        assert chosen(strategy, value) is strategy


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer"}, "a whole number"),
        ({"type": "number", "minimum": 0}, "a number of at least 0"),
        ({"type": "number", "exclusiveMinimum": 0}, "a number above 0"),
        ({"type": "integer", "minimum": 1, "maximum": 9}, "a whole number from 1 to 9"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 9}, "a number above 0 up to 9"),
        ({"type": "string"}, "a text"),
        ({"type": "string", "maxLength": 9}, "a text of at most 9 characters"),
        ({"type": "string", "maxLength": 9, "minLength": 1}, "a text of 1 to 9 characters"),
        ({"type": "string", "pattern": "^a$"}, "a text that matches `^a$`"),
        ({"type": "string", "pattern": "^a$", "examples": ["a", "b"]}, "a text such as a or b"),
        ({"type": "array", "maxItems": 8}, "a list of at most 8"),
        ({"type": "object"}, "a map"),
        ({"type": "object", "maxProperties": 64}, "a map of at most 64 fields"),
        ({"oneOf": []}, "a map"),
        ({"enum": ["a", "b", "c"]}, "a, b or c"),
        ({"const": "a"}, "a"),
    ],
)
def test_expectation(schema: Schema, words: str) -> None:
    """What a field accepts is said in words."""
    assert expectation(schema) == words


@pytest.mark.parametrize(("path", "schema"), NODES, ids=[path for path, _ in NODES])
def test_every_expectation(path: str, schema: Schema) -> None:
    """There are words for every field of the API."""
    assert len(expectation(schema)) > 0, path


def test_alternatives() -> None:
    """Words are joined as in a sentence."""
    assert (alternatives(["a"]), alternatives(["a", "b"])) == ("a", "a or b")
    assert alternatives(["a", "b", "c"], last="and") == "a, b and c"
