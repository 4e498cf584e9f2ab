"""Finding a strategy, rule, policy or stage by the word that stands in the YAML.

`fedprox` within `fl_core.strategies` is the one name that `fl_core/strategies/fedprox.py` exports;
`package.module:Class` is a class that somebody installed beside FLJob.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from fl_core.errors import SpecError


class Extension(BaseModel):
    """A name and the options that its class is built with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    options: dict[str, JsonValue] = Field(default_factory=dict)


def resolve(name: str, *, within: str) -> type[Any]:
    """The class called `name`: a module of the package `within`, or `package.module:Class`."""
    module_name, _, attribute = name.partition(":")
    if not attribute:
        if name not in known(within):
            raise SpecError(f"{within} has no {name!r}; there are {', '.join(known(within))}")
        module = import_module(f"{within}.{name}")
        attribute = module.__all__[0]
    else:
        try:
            module = import_module(module_name)
        except (ImportError, ValueError, TypeError) as error:  # the last two: an empty name, a relative one
            raise SpecError(f"{name!r} is not installed in this process's image: {error}") from error
    found = getattr(module, attribute, None)
    if not isinstance(found, type):
        raise SpecError(f"{name!r}: {module.__name__} has no class {attribute!r}")
    return found


def build(extension: Extension, *, within: str) -> Any:  # noqa: ANN401 - the caller knows the protocol
    """An instance of the extension's class, made from its options."""
    kind = resolve(extension.name, within=within)
    try:
        return kind(**extension.options)
    except TypeError as error:
        raise SpecError(f"{extension.name}: {error}") from error


def known(within: str) -> list[str]:
    """The names that come with FLJob."""
    return sorted(module.name for module in iter_modules(import_module(within).__path__))
