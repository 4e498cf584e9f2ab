"""The FL worker: it loads the user's program and trains it on data that never leaves it.

A program needs four names from here: `Site`, `Task`, `metrics` and `partition`; who wants to use what a
run has trained needs `trained`. Importing this package loads none of them, so that it stays light; each is
loaded when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fl_core import metrics
    from fl_worker import partition as partition
    from fl_worker.models import trained
    from fl_worker.task import Site, Task

__all__ = ["Site", "Task", "metrics", "partition", "trained"]

_HOMES = {"Site": "fl_worker.task", "Task": "fl_worker.task", "trained": "fl_worker.models"}
_MODULES = {"metrics": "fl_core.metrics", "partition": "fl_worker.partition"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a class or a module
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
