"""How tests get to the API server: straight, or through the fault proxy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry

from fl_operator.cluster.connection import Connection
from fl_operator.cluster.errors import ConflictError, NotFoundError, TransientError
from fl_operator.cluster.resources import CONFIG_MAPS, FLJOBS
from fl_operator.cluster.transport import APPLY, Request
from fl_operator.metrics import ClientMetrics
from tests.cluster.proxy.faults import ROUGH, Faults
from tests.cluster.proxy.server import FaultProxy

ROOT = Path(__file__).parents[2]


class Way:
    """How the engine gets to the API server in one test: straight, or through faults."""

    def __init__(self, kubeconfig: Path, proxy: FaultProxy | None) -> None:
        self.kubeconfig, self.proxy = kubeconfig, proxy

    def calm(self) -> None:
        """From now on nothing goes wrong any more."""
        if self.proxy:
            print(dict(self.proxy.faults.happened))  # noqa: T201 - shown when a test fails
            self.proxy.calm()


@asynccontextmanager
async def way_to(kubeconfig: Path, *, seed: int | None, share: float) -> AsyncIterator[Way]:
    """The way to an API server: straight without a seed, else through faults, which `share` of all requests meet."""
    if seed is None:
        yield Way(kubeconfig, None)
        return
    async with FaultProxy(kubeconfig, Faults(seed, requests=share, events=ROUGH)) as proxy:
        yield Way(proxy.kubeconfig, proxy)


@asynccontextmanager
async def connected(kubeconfig: Path) -> AsyncIterator[Connection]:
    """A connection without a limit of its own."""
    metrics = ClientMetrics(CollectorRegistry())
    connection = await Connection.open(kubeconfig, rate=0, burst=1, metrics=metrics)
    try:
        yield connection
    finally:
        await connection.close()


def play(scene: Awaitable[None], seconds: float = 90) -> None:
    """Run a scene, but not for ever."""

    async def limited() -> None:
        async with asyncio.timeout(seconds):
            await scene

    asyncio.run(limited())


async def until(condition: Callable[[], Any]) -> None:
    """Wait until something is so."""
    while not condition():
        await asyncio.sleep(0.01)


async def persist(call: Callable[[], Awaitable[Any]]) -> Any:
    """Ask until it is answered, as a level-triggered loop does."""
    while True:
        try:
            return await call()
        except (TransientError, ConflictError):
            await asyncio.sleep(0.01)


async def children(connection: Connection, namespace: str) -> dict[str, str]:
    """What the children of the toy operator hold, by their parents."""
    found = connection.objects(CONFIG_MAPS, namespace=namespace, labels="toy")
    return {
        one["metadata"]["ownerReferences"][0]["name"]: one["data"]["x"]
        async for one in found
        if "ownerReferences" in one["metadata"]
    }


async def define(connection: Connection) -> None:
    """Install the definition of FLJobs, and wait until the API server serves them."""
    crd = yaml.safe_load((ROOT / "manifests" / "crd.yaml").read_text(encoding="utf-8"))
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
    query = {"fieldManager": "tests", "force": "true"}
    await connection.wire.send(Request("PATCH", path, query=query, body=crd, content_type=APPLY))
    while True:
        with contextlib.suppress(NotFoundError, TransientError):
            await connection.document(FLJOBS.path())
            return
        await asyncio.sleep(0.05)
