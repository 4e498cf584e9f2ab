"""An operator whose jobs are ConfigMaps: each parent has one child with the same data.

It is what the tests of the engine run, in their own process or as `python -m tests.cluster.toy_operator run`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click
from structlog import get_logger

from fl_core import logs
from fl_core.commands import Commands
from fl_operator.cluster.events import Note
from fl_operator.cluster.informer import Selection
from fl_operator.cluster.resources import CONFIG_MAPS, Key, Object, uid_of
from fl_operator.loop import Requeue, controller, itself
from fl_operator.run import Engine, Operator, Parts, Watch, run_until_stopped
from fl_operator.settings import PREFIX, Settings, with_settings

log = get_logger()

LABELS = {"toy": "yes"}
_of_parent = controller(CONFIG_MAPS)


def keys(thing: Object) -> Iterable[Key]:
    """A child concerns its parent, a parent itself."""
    return _of_parent(thing) or itself(thing)


WATCHES = [Watch(Selection(CONFIG_MAPS, labels="toy"), keys, at_once=lambda *_: True)]


def parent(namespace: str, name: str, **data: str) -> Object:
    """A parent."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": namespace, "name": name, "labels": LABELS},
        "data": data,
    }


def child(of: Object) -> Object:
    """The child that a parent should have."""
    metadata = of["metadata"]
    owner = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": metadata["name"],
        "uid": uid_of(of),
        "controller": True,
    }
    made = parent(metadata["namespace"], f"{metadata['name']}-child", **of.get("data", {}))
    made["metadata"]["ownerReferences"] = [owner]
    return made


async def assemble(engine: Engine) -> Parts:
    """What to do: give a parent its child, and say so once."""

    async def reconcile(key: Key) -> Requeue | None:
        found = engine.mirror.find(CONFIG_MAPS, key)
        if found is None or _of_parent(found):
            return None
        wanted = child(found)
        known = engine.mirror.find(CONFIG_MAPS, Key(key.namespace, f"{key.name}-child"))
        if known is None or known.get("data") != wanted["data"]:
            engine.mirror.learn(await engine.connection.apply(wanted))
            engine.recorder.record(Note.on(found, "Written", "its child was written"))
        return None

    return Parts(reconcile)


@click.group(cls=Commands)
def main() -> None:
    """A toy."""


@main.command(context_settings={"auto_envvar_prefix": PREFIX})
@with_settings
def run(*, settings: Settings, log_format: logs.Format, log_level: str, **_: Any) -> None:
    """Give every parent its child."""
    logs.configure(style=log_format, level=log_level)
    run_until_stopped(Operator(settings, WATCHES, assemble))


if __name__ == "__main__":
    main()
