from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from job_generator.compiler import compile_job
from job_generator.crd import crd, structural
from job_generator.schema import job_schema
from job_generator.source import Document

Schema = dict[str, Any]
ROOT: Schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
ANY = "x-kubernetes-preserve-unknown-fields"
FORBIDDEN = {
    "$ref", "$defs", "definitions", "dependencies", "deprecated", "discriminator", "id", "patternProperties",
    "readOnly", "writeOnly", "xml", "oneOf", "anyOf", "allOf", "not", "const", "title", "examples", "uniqueItems",
    "additionalItems", "contentEncoding", "propertyNames",
}  # fmt: skip
"""What a structural schema does not know, or knows only without types."""


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every schema within a schema, by where it stands."""
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from nodes(field, f"{path}.{name}")
    for inner in (schema.get("items"), schema.get("additionalProperties")):
        if isinstance(inner, dict):
            yield from nodes(inner, f"{path}[]")


NODES = list(nodes(ROOT))


@pytest.mark.parametrize(("path", "schema"), NODES, ids=[path or "root" for path, _ in NODES])
def test_structural(path: str, schema: Schema) -> None:
    """Every node has a type or takes anything, and uses no word that Kubernetes refuses (KEP-1979)."""
    assert schema.get("type") in {"object", "array", "string", "integer", "number", "boolean"} or schema.get(
        ANY
    ), path
    assert FORBIDDEN & set(schema) == set()
    assert not ({"properties", "additionalProperties"} <= set(schema))
    assert isinstance(schema.get("exclusiveMinimum", False), bool)
    assert schema.get("type") != "array" or "items" in schema
    assert set(schema.get("required", ())) <= set(schema.get("properties", {}))


def test_bounded() -> None:
    """Every text, list and map has an end, in the status too: rules are admitted by what they could cost."""
    for path, schema in NODES:
        if not path.startswith((".spec", ".status")):
            continue
        match schema.get("type"):
            case "string" if schema.get("format") != "date-time":
                fixed = re.search(r"\{\d+\}\$$", schema.get("pattern", ""))
                assert "maxLength" in schema or "enum" in schema or fixed, path
            case "array":
                assert "maxItems" in schema, path
            case "object" if "properties" not in schema:
                assert "maxProperties" in schema, path


def test_size() -> None:
    """`kubectl apply` keeps the whole definition in an annotation of at most 262,144 bytes."""
    assert 20_000 < len(json.dumps(crd())) < 262_144 // 4


def test_names() -> None:
    """The definition is called after its plural and group, as the API server demands."""
    definition = crd()
    spec = definition["spec"]
    assert (
        definition["metadata"]["name"] == f"{spec['names']['plural']}.{spec['group']}" == "fljobs.fljob.dev"
    )
    assert [version["storage"] for version in spec["versions"]].count(True) == 1
    assert (spec["names"]["shortNames"], spec["names"]["categories"]) == (["flj"], ["fljob"])


def test_paths() -> None:
    """Columns, the scale subresource and field selectors point to fields that exist, of a type they take."""
    version = crd()["spec"]["versions"][0]
    there = dict(NODES)
    columns = {column["name"]: column["jsonPath"] for column in version["additionalPrinterColumns"]}
    scale = version["subresources"]["scale"]
    selectable = [field["jsonPath"] for field in version["selectableFields"]]
    assert list(columns) == ["State", "Round", "Cohort", "Metric", "Epsilon", "Strategy", "Reason", "Age"]
    assert {*columns.values(), *scale.values(), *selectable} - set(there) == {".metadata.creationTimestamp"}
    assert {there[scale["specReplicasPath"]]["type"], there[scale["statusReplicasPath"]]["type"]} == {
        "integer"
    }
    assert {there[path]["type"] for path in selectable} <= {"string", "boolean", "integer"}
    assert len(selectable) <= 8


def test_lists_by_name() -> None:
    """Conditions and sites are lists whose items have a key, so that two writers do not overwrite each other."""
    for path, key in ((".status.conditions", "type"), (".spec.sites", "name")):
        field = dict(NODES)[path]
        assert (field["x-kubernetes-list-type"], field["x-kubernetes-list-map-keys"]) == ("map", [key])
        assert key in field["items"]["required"]


def test_every_field() -> None:
    """Every field of the API is in the definition, those of each strategy included."""

    def fields(schema: Schema, path: str) -> Iterator[str]:
        for name, field in schema.get("properties", {}).items():
            yield f"{path}.{name}"
            yield from fields(field, f"{path}.{name}")
        for kind in schema.get("oneOf", ()):
            yield from fields(kind, path)

    wanted = set(fields(job_schema()["properties"]["spec"], ".spec"))
    assert len(wanted) > 30
    assert wanted - {path for path, _ in NODES} == set()


def defaulted(schema: Schema, value: Any) -> Any:
    """What the API server makes of a value: the schema's defaults filled in."""
    if isinstance(value, list) and "items" in schema:
        return [defaulted(schema["items"], item) for item in value]
    if not isinstance(value, dict):
        return value
    fields = schema.get("properties", {})
    filled = {
        name: field["default"] for name, field in fields.items() if "default" in field and name not in value
    }
    whole = {**value, **filled}
    return {name: defaulted(fields.get(name, {}), inner) for name, inner in whole.items()}


@pytest.mark.parametrize(
    "changes", [{}, {"selection": {"perRound": 2}}, {"server": {"checkpoint": {"keep": 1}}}]
)
def test_defaults(job_map: Callable[..., Schema], changes: Schema) -> None:
    """A job whose defaults the API server filled in gives the Plan of the job as it was written."""
    written = job_map(**changes)
    filled = defaulted(ROOT, written)
    assert filled["spec"]["selection"]["onShortfall"] == {"action": "Retry", "attempts": 3}
    assert filled["spec"]["strategy"] == {"name": "fedavg"}
    assert compile_job(Document(filled).job()).to_json() == compile_job(Document(written).job()).to_json()


def test_nothing_is_pruned(whole_map: Callable[..., Schema]) -> None:
    """The API server drops no field of a job: each is known, or stands where anything may."""

    def pruned(schema: Schema, value: Any, path: str) -> Iterator[str]:
        if schema.get(ANY) and "properties" not in schema:
            return
        inner = schema.get("additionalProperties")
        pairs = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for step, item in pairs:
            field = schema.get("items") or schema.get("properties", {}).get(step) or inner
            if field:
                yield from pruned(field, item, f"{path}.{step}")
            elif not schema.get(ANY):
                yield f"{path}.{step}"

    assert list(pruned(ROOT["properties"]["spec"], whole_map()["spec"], "spec")) == []
    assert list(pruned(ROOT["properties"]["spec"], {"rnds": 1}, "spec")) == ["spec.rnds"]


def test_names_of_kinds() -> None:
    """A strategy's name is one that comes with FLJob or a class of the user's own; both ends are anchored."""
    name = dict(NODES)[".spec.strategy.name"]["pattern"]
    assert all(re.search(name, word) for word in ("fedavg", "fedprox", "a.b:C"))
    assert not any(re.search(name, word) for word in ("fedavgx", "xfedavg", "", "a", "a:b c", "a:b:c"))


def test_yaml() -> None:
    """The definition is plain YAML: no anchors, which some tools do not read."""
    text = yaml.safe_dump(crd(), sort_keys=False)
    assert yaml.safe_load(text) == crd()
    assert not re.search(r"[:-] [&*]id\d", text)


def test_exclusive_bounds() -> None:
    """A bound that is excluded is written as Kubernetes writes it: a number and a flag."""
    assert structural({"type": "number", "exclusiveMinimum": 0}) == {
        "type": "number",
        "minimum": 0,
        "exclusiveMinimum": True,
    }
