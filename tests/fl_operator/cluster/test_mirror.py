"""All copies together, in all watched namespaces."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from fl_operator.cluster.connection import Connection
from fl_operator.cluster.informer import Selection
from fl_operator.cluster.mirror import Mirror
from fl_operator.cluster.resources import CONFIG_MAPS, JOBS, Key


def mirror_of(memory: Any, namespaces: Sequence[str]) -> Mirror:
    restarts = Counter("r_total", "Restarts.", ("resource", "reason"), registry=CollectorRegistry())
    return Mirror(Connection(memory), [Selection(CONFIG_MAPS)], namespaces=namespaces, restarts=restarts)


def thing(namespace: str, version: int) -> dict[str, Any]:
    metadata = {
        "namespace": namespace,
        "name": "a",
        "uid": namespace,
        "resourceVersion": str(version),
        "ownerReferences": [{"uid": "owner"}],
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


@pytest.mark.parametrize("namespaces", [(), ("one", "two")], ids=["everywhere", "two namespaces"])
def test_found_wherever_it_is(memory: Any, namespaces: Sequence[str]) -> None:
    """Objects are found by key and owner, whether one informer has them all or each namespace has its own."""

    async def main() -> None:
        mirror = mirror_of(memory, namespaces)
        running = asyncio.create_task(mirror.run())
        await asyncio.wait_for(mirror.synced(), 5)
        assert len(memory.watches) == (len(namespaces) or 1)
        for namespace in ("one", "two"):
            mirror.learn(thing(namespace, 1000))
        found = mirror.find(CONFIG_MAPS, Key("two", "a"))
        assert found is not None
        assert found["metadata"]["uid"] == "two"
        assert [one["metadata"]["uid"] for one in mirror.owned(CONFIG_MAPS, "owner")] == ["one", "two"]
        assert set(mirror.keys(CONFIG_MAPS)) == {Key("one", "a"), Key("two", "a")}
        assert mirror.find(CONFIG_MAPS, Key("three", "a")) is None
        assert mirror.find(JOBS, Key("one", "a")) is None
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert memory.watches == []

    asyncio.run(main())
