"""JSON schemas of Kubernetes' own objects, and of those of definitions, in the files that kubeconform looks for.

They are made from the OpenAPI document in the Go module of Kubernetes, so that nothing is fetched by address.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

Map = dict[str, Any]
LOCATION = "{{ .ResourceKind }}-{{ .Group }}-{{ .ResourceAPIVersion }}.json"
"""How kubeconform finds a file."""
PREFIX = "#/definitions/"
FREE = {"int-or-string": [{"type": "integer"}, {"type": "string"}]}
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"


def write(folder: Path, *, swagger: Path, definitions: Iterable[Path]) -> None:
    """One file for each kind of the OpenAPI document and of the CustomResourceDefinitions."""
    known: dict[str, Map] = json.loads(swagger.read_text(encoding="utf-8"))["definitions"]
    known[QUANTITY] = {"oneOf": [{"type": "number"}, {"type": "string"}]}
    for name, one in known.items():
        for kind in one.get("x-kubernetes-group-version-kind", ()):
            needed = {other: strict(known[other]) for other in closure(known, name)}
            _write(folder, kind, {"$ref": PREFIX + name, "definitions": needed})
    for path in definitions:
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]
        for version in spec["versions"]:
            kind = {"kind": spec["names"]["kind"], "group": spec["group"], "version": version["name"]}
            whole = strict(version["schema"]["openAPIV3Schema"])
            whole["properties"]["metadata"] = {"type": "object"}
            _write(folder, kind, whole)


def closure(known: dict[str, Map], name: str) -> set[str]:
    """The definitions that one refers to, itself among them, over any number of steps."""
    found, ahead = set[str](), [name]
    while ahead:
        if (one := ahead.pop()) not in found:
            found.add(one)
            ahead += _references(known[one])
    return found


def strict(schema: Any) -> Any:
    """A schema that refuses unknown fields, and takes numbers where Kubernetes does."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") in FREE or schema.get("x-kubernetes-int-or-string"):
        return {"oneOf": FREE["int-or-string"]}
    made = {name: strict(one) for name, one in schema.items() if name not in {"format", "properties"}}
    if "properties" in schema:
        made["properties"] = {name: strict(one) for name, one in schema["properties"].items()}
        if not made.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    return made


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(reference := schema.get("$ref"), str):
            yield reference.removeprefix(PREFIX)
        schema = list(schema.values())
    if isinstance(schema, list):
        for one in schema:
            yield from _references(one)


def _write(folder: Path, kind: Map, schema: Map) -> None:
    group = kind["group"] or kind["version"]  # as kubeconform reads the apiVersion of the core group
    name = f"{kind['kind'].lower()}-{group}-{kind['version']}.json"
    (folder / name).write_text(json.dumps(schema), encoding="utf-8")
