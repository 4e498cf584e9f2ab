"""The custom resource definition, made from the types of `spec.py`.

Kubernetes takes a structural schema (KEP-1979): no references, no alternatives that differ in type,
so the kinds of a strategy become one map that holds the fields of all of them.
"""

from __future__ import annotations

from typing import Any

from job_generator.admission import VALIDATIONS
from job_generator.schema import Schema, job_schema, status_schema
from job_generator.spec import API_VERSION, KIND
from job_generator.validation import of_kinds

GROUP, _, VERSION = API_VERSION.partition("/")
PLURAL = "fljobs"
KEPT = (
    "type", "description", "default", "enum", "pattern", "format", "minimum", "maximum", "minLength", "maxLength",
    "maxItems", "maxProperties", "required", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
)  # fmt: skip
"""The keywords that mean the same in both."""
RULES = "x-kubernetes-validations"
COLUMNS = (
    ("State", "string", ".status.display.state", 0),
    ("Round", "string", ".status.display.round", 0),
    ("Cohort", "string", ".status.display.cohort", 0),
    ("Metric", "string", ".status.display.metric", 0),
    ("Epsilon", "string", ".status.display.epsilon", 0),
    ("Strategy", "string", ".spec.strategy.name", 1),
    ("Reason", "string", ".status.display.reason", 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)
"""What `kubectl get` shows; those of priority 1 with `-o wide`."""
SELECTABLE = (
    ".spec.managedBy", ".spec.suspend", ".spec.strategy.name", ".spec.program.framework", ".status.display.state",
)  # fmt: skip
"""What `kubectl get --field-selector` takes."""
SCALE = {
    "specReplicasPath": ".spec.workers.replicas",
    "statusReplicasPath": ".status.workers.replicas",
    "labelSelectorPath": ".status.workers.selector",
}


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
        {"name": name, "type": kind, "jsonPath": path, "priority": priority}
        for name, kind, path, priority in COLUMNS
    ]
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": columns,
        "selectableFields": [{"jsonPath": path} for path in SELECTABLE],
        "subresources": {"status": {}, "scale": SCALE},
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
            "spec": _ruled(structural(whole["properties"]["spec"])),
            "status": structural(status_schema()),
        },
    }


def _ruled(spec: Schema) -> Schema:
    """The spec with each rule on the map that it stands on."""
    for one in VALIDATIONS:
        place = spec
        for step in one.at:
            place = place["items"] if step == "[]" else place["properties"][step]
        place.setdefault(RULES, []).append(one.document())
    return spec


def structural(schema: Schema) -> Schema:
    """A JSON schema as Kubernetes takes it."""
    if "oneOf" in schema:
        schema = {**_joined(schema["oneOf"]), **{key: schema[key] for key in KEPT if key in schema}}
    result = {key: schema[key] for key in (*KEPT, RULES) if key in schema}
    if "const" in schema:
        result["enum"] = [schema["const"]]
    if "exclusiveMinimum" in schema:
        result |= {"minimum": schema["exclusiveMinimum"], "exclusiveMinimum": True}
    if "items" in schema:
        result["items"] = structural(schema["items"])
    if "properties" in schema:
        result["properties"] = {name: structural(field) for name, field in schema["properties"].items()}
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


def _joined(kinds: list[Schema]) -> Schema:
    """One map with the fields of all kinds, and rules that tell which of them a name has and needs."""
    fields: Schema = {}
    owners: dict[str, list[str]] = {}
    needs: dict[str, list[str]] = {}
    words = [kind["properties"]["name"]["const"] for kind in kinds if "const" in kind["properties"]["name"]]
    own = next(
        kind["properties"]["name"]["pattern"] for kind in kinds if "pattern" in kind["properties"]["name"]
    )
    for kind in kinds:
        called = kind["properties"]["name"].get("const")
        for name, field in kind["properties"].items():
            if called and name != "name":
                # A default would appear under every name.
                fields[name] = {key: value for key, value in field.items() if key != "default"}
                owners.setdefault(name, []).append(called)
                needs.setdefault(called, []).extend([name] if name in kind.get("required", ()) else [])
    name = {
        "type": "string",
        "maxLength": 253,
        "pattern": f"^({'|'.join(words)})$|{own}",
        "description": f"One of {', '.join(words)}, or a class of your own, package.module:Class.",
    }
    rules = of_kinds(owners, needs)
    return {
        "type": "object",
        "required": ["name"],
        "properties": {"name": name, **fields},
        "additionalProperties": True,
        **({RULES: rules} if rules else {}),
    }
