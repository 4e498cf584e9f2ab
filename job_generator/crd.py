"""The custom resource definition, made from the types of `spec.py`.

Kubernetes takes a structural schema (KEP-1979): no references, no alternatives that differ in type,
so the kinds of a strategy become one map that holds the fields of all of them.
"""

from __future__ import annotations

from typing import Any

from job_generator.schema import Schema, job_schema
from job_generator.spec import API_VERSION, KIND

GROUP, _, VERSION = API_VERSION.partition("/")
PLURAL = "fljobs"
KEPT = (
    "type", "description", "default", "enum", "pattern", "format", "minimum", "maximum", "minLength", "maxLength",
    "maxItems", "maxProperties", "required",
)  # fmt: skip
"""The keywords that mean the same in both."""


def crd() -> dict[str, Any]:
    """The CustomResourceDefinition of FLJob (apiextensions.k8s.io/v1)."""
    names = {
        "kind": KIND,
        "listKind": f"{KIND}List",
        "plural": PLURAL,
        "singular": "fljob",
        "shortNames": ["flj"],
        "categories": ["fljob"],
    }
    columns = [
        {"name": "Rounds", "type": "integer", "jsonPath": ".spec.rounds"},
        {"name": "Workers", "type": "integer", "jsonPath": ".spec.workers.replicas"},
        {"name": "Strategy", "type": "string", "jsonPath": ".spec.strategy.name", "priority": 1},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": _job()},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def _job() -> Schema:
    whole = job_schema()
    metadata = whole["properties"]["metadata"]["properties"]["name"]
    name = {key: metadata[key] for key in ("type", "pattern", "maxLength")}
    return {
        "type": "object",
        "description": whole["description"],
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object", "properties": {"name": name}},
            "spec": structural(whole["properties"]["spec"]),
        },
    }


def structural(schema: Schema) -> Schema:
    """A JSON schema as Kubernetes takes it."""
    if "oneOf" in schema:
        schema = {**_joined(schema["oneOf"]), **{key: schema[key] for key in KEPT if key in schema}}
    result = {key: schema[key] for key in KEPT if key in schema}
    if "const" in schema:
        result["enum"] = [schema["const"]]
    if "exclusiveMinimum" in schema:
        result |= {"minimum": schema["exclusiveMinimum"], "exclusiveMinimum": True}
    if "items" in schema:
        result["items"] = structural(schema["items"])
    if "properties" in schema:
        fields = {name: structural(field) for name, field in schema["properties"].items()}
        result["properties"] = {name: _defaulted(name, field, schema) for name, field in fields.items()}
    return result | _open(schema)


def _open(schema: Schema) -> Schema:
    """What may hold fields that no schema names: a program's config, the arguments of a user's own class."""
    match schema.get("additionalProperties"):
        case True:
            return {"x-kubernetes-preserve-unknown-fields": True}
        case dict() as values:
            free = values.get("type") is None
            inner = {"x-kubernetes-preserve-unknown-fields": True} if free else structural(values)
            return {"additionalProperties": inner}
    return {}


def _defaulted(name: str, field: Schema, parent: Schema) -> Schema:
    """A map that may be left out starts empty, so that the defaults inside it apply."""
    optional = name not in parent.get("required", ())
    whole = field.get("type") == "object" and not field.get("required") and "properties" in field
    return {**field, "default": {}} if optional and whole and "default" not in field else field


def _joined(kinds: list[Schema]) -> Schema:
    """One map with the fields of all kinds; which of them a name needs is checked when the job is compiled."""
    fields: Schema = {}
    for kind in kinds:
        fields |= {name: field for name, field in kind["properties"].items() if name != "name"}
    names = [kind["properties"]["name"] for kind in kinds]
    words = "|".join(name["const"] for name in names if "const" in name)
    own = next(name["pattern"] for name in names if "pattern" in name)
    text = "One of " + ", ".join(name["const"] for name in names if "const" in name)
    name = {
        "type": "string",
        "maxLength": 253,
        "pattern": f"^({words})$|{own}",
        "description": f"{text}, or a class of your own, package.module:Class.",
    }
    return {
        "type": "object",
        "required": ["name"],
        "properties": {"name": name, **fields},
        "additionalProperties": True,
    }
