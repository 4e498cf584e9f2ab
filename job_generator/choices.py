"""A strategy, rule, policy, stage or mechanism in YAML: a name, and the fields of the class of that name."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, Union, get_type_hints

from pydantic import ConfigDict, Discriminator, Field, GetCoreSchemaHandler, Tag, create_model
from pydantic_core import CoreSchema

from fl_core.extensions import Extension, known, resolve
from job_generator.part import Part

DOTTED = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*"
ATTRIBUTE = r"[A-Za-z_][A-Za-z0-9_]*"


class Choice(Part):
    """A strategy, rule, policy or stage: its name, and its own fields beside it."""

    name: str

    def extension(self) -> Extension:
        """What the Plan holds of it."""
        return Extension(name=self.name, options=self.model_dump(mode="json", exclude={"name"}))


class Installed(Choice):
    """A class of the user's own, installed in the image of the server or scheduler."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[
        str, Field(pattern=f"^{DOTTED}:{ATTRIBUTE}$", max_length=253, examples=["package.module:Class"])
    ]
    """`package.module:Class`; the fields beside it are the arguments of the class."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """Marks a field that holds any extension of one package, or the user's own."""

    within: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - pydantic's
        members = [Annotated[choice(name, within=self.within), Tag(name)] for name in known(self.within)]
        members.append(Annotated[Installed, Tag("installed")])
        which = Discriminator(
            _tag,
            custom_error_type="unknown_name",
            custom_error_message="unknown name",
            custom_error_context={"within": self.within},
        )
        return handler.generate_schema(Annotated[Union[tuple(members)], which])  # noqa: UP007 - members are computed


def _tag(value: Any) -> str | None:  # noqa: ANN401 - whatever stands in the YAML
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return "installed" if isinstance(name, str) and ":" in name else name


@cache
def choice(name: str, *, within: str) -> type[Choice]:
    """The type of one extension in YAML: its name, and the fields of its dataclass."""
    kind = resolve(name, within=within)
    hints = get_type_hints(kind, include_extras=True)
    own: dict[str, Any] = {field.name: (hints[field.name], ...) for field in fields(kind)}
    own["name"] = (Literal[name], ...)
    summary = (kind.__doc__ or "").partition("\n")[0]
    return create_model(kind.__name__, __base__=Choice, __doc__=summary, **own)


def default(name: str, *, within: str) -> Any:  # noqa: ANN401 - a field of any type
    """A field that holds this extension where nothing is given."""
    return Field(
        default_factory=lambda: choice(name, within=within)(name=name),
        json_schema_extra={"default": {"name": name}},
    )
