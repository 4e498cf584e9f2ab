"""The FLJob's JSON schema with every reference resolved: what errors, the CRD and the reference page are made of."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from job_generator import choices, deployment, lifecycle, spec, status
from job_generator.choices import ATTRIBUTE, DOTTED
from job_generator.part import NAME

Schema = dict[str, Any]
Path = tuple[str | int, ...]


@cache
def job_schema() -> Schema:
    """The schema of an FLJob (JSON Schema 2020-12), without references, nulls and generated titles."""
    return _schema(spec.FLJob)


@cache
def status_schema() -> Schema:
    """The schema of what the operator reports, in the same form."""
    return _schema(status.Status)


def _schema(kind: type[BaseModel]) -> Schema:
    raw = kind.model_json_schema(by_alias=True)
    definitions = raw.pop("$defs")
    texts = {name: dict(_descriptions(body)) for name, body in _classes()}
    described = {
        name: _described(definition, texts.get(name, {})) for name, definition in definitions.items()
    }
    whole: Schema = _resolved(_described(raw, texts[kind.__name__]), described)
    return whole


def node(path: Path, value: Any) -> Schema | None:  # noqa: ANN401 - any JSON value
    """The schema of what stands at this path of the document `value`; None for an unknown field."""
    schema, value = _field(path, value)
    return chosen(schema, value) if schema else None


def several(path: Path, value: Any) -> bool:  # noqa: ANN401 - any JSON value
    """Tell whether a name in the document chooses among several kinds at this path."""
    schema, _ = _field(path, value)
    return "oneOf" in (schema or {})


def _field(path: Path, value: Any) -> tuple[Schema | None, Any]:  # noqa: ANN401 - any JSON value
    schema: Schema | None = job_schema()
    for step in path:
        schema = chosen(schema, value) if schema else None
        if schema is None:
            return None, None
        if isinstance(step, int):
            schema = schema.get("items")
            value = value[step] if isinstance(value, list) and step < len(value) else None
        else:
            values = schema.get("additionalProperties")
            schema = schema.get("properties", {}).get(step, values if isinstance(values, dict) else None)
            value = value.get(step) if isinstance(value, dict) else None
    return schema, value


def chosen(schema: Schema, value: Any) -> Schema:  # noqa: ANN401 - any JSON value
    """Of several kinds, the one that the value names; the schema itself otherwise."""
    name = value.get("name") if isinstance(value, dict) else None
    for kind in schema.get("oneOf", ()):
        named = kind["properties"]["name"]
        if name == named.get("const", ...) or ("pattern" in named and ":" in str(name)):
            return dict(kind)
    return schema


PATTERNS = {
    NAME: ", lower-case letters, digits and dashes, a letter first,",
    f"^{DOTTED}:{ATTRIBUTE}$": ", a module and a name in it with a colon between,",
}
"""What texts of these patterns are made of, in words."""


def expectation(schema: Schema) -> str:
    """What a schema accepts, in words."""
    if "const" in schema or "enum" in schema:
        return alternatives([str(item) for item in schema.get("enum", [schema.get("const")])])
    match schema.get("type", "object"):
        case "integer" | "number":
            return _number(schema)
        case "boolean":
            return "true or false"
        case "string":
            return _text(schema)
        case "array":
            return f"a list of at most {schema['maxItems']}"
        case _:
            return "a map" + (
                f" of at most {schema['maxProperties']} fields" if "maxProperties" in schema else ""
            )


def alternatives(words: Sequence[str], *, last: str = "or") -> str:
    """`a, b or c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def _number(schema: Schema) -> str:
    noun = "a whole number" if schema["type"] == "integer" else "a number"
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
    above = "above" if "exclusiveMinimum" in schema else "from"
    match low, high:
        case None, None:
            return noun
        case _, None:
            return f"{noun} above {low}" if above == "above" else f"{noun} of at least {low}"
    return f"{noun} {above} {low} {'up to' if above == 'above' else 'to'} {high}"


def _text(schema: Schema) -> str:
    longest = f" of at most {schema['maxLength']} characters" if "maxLength" in schema else ""
    longest = longest.replace("at most", f"{schema['minLength']} to") if "minLength" in schema else longest
    if schema.get("pattern") in PATTERNS:
        longest += PATTERNS[schema["pattern"]]
    if "examples" in schema:
        return f"a text{longest} such as {alternatives(schema['examples'])}"
    return f"a text{longest}" + (f" that matches `{schema['pattern']}`" if "pattern" in schema else "")


def _classes() -> Iterator[tuple[str, list[ast.stmt]]]:
    for module in (spec, lifecycle, choices, deployment, status):
        for statement in ast.parse(inspect.getsource(module)).body:
            if isinstance(statement, ast.ClassDef):
                yield statement.name, statement.body


def _descriptions(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    """A field and the string below it, as documentation tools read them."""
    for statement, below in pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            match below:
                case ast.Expr(ast.Constant(str(text))):
                    yield to_camel(statement.target.id), text


def _described(definition: Schema, texts: dict[str, str]) -> Schema:
    properties = {
        name: {**field, "description": texts[name]} if name in texts else field
        for name, field in definition.get("properties", {}).items()
    }
    return {**definition, "properties": properties} if properties else definition


def _resolved(schema: Any, definitions: dict[str, Schema]) -> Any:  # noqa: ANN401 - any part of a schema
    if isinstance(schema, list):
        return [_resolved(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _resolved(field, definitions) for name, field in value.items()}
        if key == "properties"
        else _resolved(value, definitions)
        for key, value in _merged(schema, definitions).items()
        if not (key == "default" and value is None) and not (key == "title" and isinstance(value, str))
    }


def _merged(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """A schema with what it refers to; of what may be left out, the one kind that is not null."""
    merged = dict(schema)
    for kind in merged.pop("anyOf", ()):
        if kind != {"type": "null"}:
            merged = {**kind, **merged}
    if "$ref" in merged:
        merged = {**definitions[merged.pop("$ref").rpartition("/")[2]], **merged}
    return merged
