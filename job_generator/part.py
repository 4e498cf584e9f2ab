"""What the pieces of the FLJob have in common: the base of their types, and the texts that names match."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
OBJECT_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
NAME_OR_NONE = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"
"""An object of Kubernetes (RFC 1123 subdomain)."""


class Part(BaseModel):
    """A piece of the FLJob: frozen, closed to unknown fields, camelCase in YAML."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


def whole(kind: type[Part]) -> Any:  # noqa: ANN401 - a field of any type
    """A field that may be left out; then it starts empty, and the defaults inside it apply."""
    return Field(default_factory=kind, json_schema_extra={"default": {}})
