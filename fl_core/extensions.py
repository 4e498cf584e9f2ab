"""Finding a strategy, rule, policy or stage by the word that stands in the YAML.

`fedprox` within `fl_core.strategies` is the one name that `fl_core/strategies/fedprox.py` exports;
`package.module:Class` is a class that somebody installed beside FLJob.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from fl_core.errors import FLJobError, JobError, SpecError

FIELDS = {
    "fl_core.strategies": "spec.strategy.name",
    "fl_core.aggregation": "spec.aggregation.name",
    "fl_core.selection": "spec.selection.policy.name",
    "fl_core.compression": "spec.compression",
    "fl_core.privacy.mechanisms": "spec.privacy.mechanism.name",
}
"""Where a job names what comes from each package."""


class Extension(BaseModel):
    """A name and the options that its class is built with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    options: dict[str, JsonValue] = Field(default_factory=dict)


def resolve(name: str, *, within: str) -> type[Any]:
    """The class called `name`: a module of the package `within`, or `package.module:Class`."""
    module_name, _, attribute = name.partition(":")
    field = FIELDS.get(within, within)
    if not attribute:
        if name not in known(within):
            raise SpecError(f"{within} has no {name!r}; there are {', '.join(known(within))}")
        module = import_module(f"{within}.{name}")
        attribute = module.__all__[0]
    else:
        try:
            module = import_module(module_name)
        except (ImportError, ValueError, TypeError) as error:  # the last two: an empty name, a relative one
            raise SpecError(f"{field}: {name!r} is not installed in this process's image: {error}") from error
    found = getattr(module, attribute, None)
    if not isinstance(found, type):
        raise SpecError(f"{field}: {name!r}: {module.__name__} has no class {attribute!r}")
    return found


def build(extension: Extension, *, within: str, protocol: type[Any]) -> Any:  # noqa: ANN401 - the protocol
    """An instance of the extension's class, made from its options; it has the protocol's public members."""
    kind = resolve(extension.name, within=within)
    lacking = [name for name in vars(protocol) if not name.startswith("_") and not hasattr(kind, name)]
    if lacking:
        raise SpecError(
            f"{extension.name!r} has no {', '.join(lacking)}; "
            f"it must be a {protocol.__name__} as {protocol.__module__} describes"
        )
    try:
        return kind(**extension.options)
    except TypeError as error:
        raise SpecError(f"{extension.name}: {error}") from error


@contextmanager
def blamed(extension: object) -> Iterator[None]:
    """Whatever the extension's code raises is its author's to mend, and is said to be so."""
    kind = type(extension)
    try:
        yield
    except FLJobError:
        raise
    except Exception as error:
        name = f"{kind.__module__}:{kind.__qualname__}"
        raise JobError(f"{name} raised {type(error).__name__}: {error}; mend the class") from error


@cache
def known(within: str) -> tuple[str, ...]:
    """The names that come with FLJob."""
    return tuple(sorted(module.name for module in iter_modules(import_module(within).__path__)))
