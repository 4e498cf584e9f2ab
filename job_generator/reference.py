"""The reference page of the API, made from the types of `spec.py`."""

from __future__ import annotations

import json
from collections.abc import Iterator

from job_generator.schema import Schema, expectation, job_schema, status_schema

HEAD = """# The FLJob API

This page is generated from `job_generator/spec.py`; `make generate` writes it. Unknown fields are errors.
The same types are the [JSON schema](fljob.schema.json) for editors and the custom resource definition in
`manifests/crd.yaml`.

Several files given with `-f` merge in order: maps merge, everything else replaces, `null` removes a field.

On a cluster these may change after the job was created: `suspend`, `suspendGraceSeconds`, `rounds` (to fewer),
`activeDeadlineSeconds`, `ttlSecondsAfterFinished`, `podCleanupPolicy`, `workers.replicas` (up to `maxReplicas`), and
the templates, for the next attempt. Everything else is for good.
"""

STATUS = "What the operator reports; nobody else writes it."


def reference() -> str:
    """The page, in Markdown."""
    job = job_schema()
    sections = [HEAD, *_section("", {**job, "properties": _heads(job)}, level=2)]
    sections += _section("metadata", job["properties"]["metadata"], level=2)
    sections += _section("spec", job["properties"]["spec"], level=2)
    sections += _section("status", {"description": STATUS, **status_schema()}, level=2)
    return "\n".join(sections)


def _heads(job: Schema) -> Schema:
    return {name: job["properties"][name] for name in ("apiVersion", "kind")}


def _section(path: str, schema: Schema, *, level: int) -> Iterator[str]:
    if path:
        yield f"{'#' * level} `{path}`\n\n{schema.get('description', '').strip()}\n"
    yield _table(schema)
    for name, field in schema["properties"].items():
        inner = f"{path}.{name}" if path else name
        for where, kind in _parts(inner, field):
            yield from _section(where, kind, level=min(level + 1, 4))


def _parts(path: str, field: Schema) -> Iterator[tuple[str, Schema]]:
    """The maps inside a field that have fields of their own."""
    if field.get("type") == "array":
        path, field = f"{path}[]", field["items"]
    for kind in field.get("oneOf", ()):
        word = kind["properties"]["name"].get("const", "package.module:Class")
        yield f"{path}: {{name: {word}}}", kind
    if "properties" in field:
        yield path, field


def _table(schema: Schema) -> str:
    rows = ["| field | accepts | default | |", "|---|---|---|---|"]
    required = schema.get("required", ())
    rows += [_row(name, field, needed=name in required) for name, field in schema["properties"].items()]
    return "\n".join(rows) + "\n"


def _row(name: str, field: Schema, *, needed: bool) -> str:
    default = "required" if needed else _default(field)
    text = field.get("description", "").replace("\n", " ")
    cells = (f"`{name}`", expectation(field), default, text)
    row = " | ".join(cell.replace("|", "\\|") for cell in cells)
    return f"| {row} |"


def _default(field: Schema) -> str:
    if "default" not in field:
        return ""
    value = field["default"]
    if isinstance(value, dict):
        return "`{" + ", ".join(f"{key}: {item}" for key, item in value.items()) + "}`"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"
