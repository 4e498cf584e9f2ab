"""The operator's engine in front of a real API server, straight and through the fault proxy."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from fl_operator.cluster import transport
from fl_operator.cluster.connection import Connection
from fl_operator.cluster.errors import NotFoundError
from fl_operator.cluster.events import Note, Recorder
from fl_operator.cluster.informer import Informer, Selection
from fl_operator.cluster.lease import Lease, LeaseLostError, Timing
from fl_operator.cluster.resources import CONFIG_MAPS, EVENTS, FLJOBS, LEASES, Key, uid_of
from fl_operator.pace import FullJitter
from fl_operator.run import Operator
from fl_operator.settings import Settings
from tests.cluster import toy_operator as toy
from tests.cluster.proxy.faults import WRITES, Faults
from tests.cluster.proxy.server import FaultProxy
from tests.cluster.toy_operator import parent as config_map
from tests.cluster.way import Way, children, connected, define, persist, play, until, way_to

pytestmark = pytest.mark.cluster

SEEDS = os.environ.get("FLJOB_FAULT_SEEDS", "1 2").split()

LIST_SECONDS = 4.0
"""A real API server may take two seconds to say that its list is whole."""

Road = Callable[..., contextlib.AbstractAsyncContextManager[Way]]


@pytest.fixture(params=["straight", *(f"faults {seed}" for seed in SEEDS)])
def road(request: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Road:
    """Each test takes the straight way and some through faults, with a share of spoilt requests."""
    monkeypatch.setattr(transport, "REQUEST_SECONDS", 2.0)
    seed = None if request.param == "straight" else int(request.param.split()[1])
    return lambda share=0.2: way_to(cluster.kubeconfig, seed=seed, share=share)


def restarts() -> Counter:
    return Counter("restarts_total", "Restarts.", ("resource", "reason"), registry=CollectorRegistry())


def test_writing_and_reading(road: Road, namespace: str) -> None:
    """What is applied is there, once, with our name as its manager, whatever happened to the requests."""

    async def scene() -> None:
        async with road() as way, connected(way.kubeconfig) as connection:
            for number in range(10):
                thing = config_map(namespace, "a", number=str(number))
                applied = await persist(lambda thing=thing: connection.apply(thing))
                assert applied["data"] == {"number": str(number)}
            found = await persist(lambda: connection.read(CONFIG_MAPS, Key(namespace, "a")))
            assert found["data"] == {"number": "9"}
            [managed] = found["metadata"]["managedFields"]
            assert (managed["manager"], managed["operation"]) == ("fljob-operator", "Apply")

    play(scene())


# -- copies


def test_the_copy_ends_like_the_original(road: Road, cluster: Any, namespace: str) -> None:
    """Whatever happened to its watch, the copy is the original in the end, and handlers heard each step's ends."""

    async def scene() -> None:
        draw = random.Random(5)
        told: dict[str, str | None] = {}

        def follow(old: Any, new: Any) -> None:
            name = (new or old)["metadata"]["name"]
            assert told.get(name) == (old and old["metadata"]["resourceVersion"])
            told[name] = new and new["metadata"]["resourceVersion"]

        async with (
            road(share=0.5) as way,
            connected(cluster.kubeconfig) as direct,
            connected(way.kubeconfig) as through,
        ):
            selection = Selection(CONFIG_MAPS, namespace=namespace, labels="toy")
            backoff = FullJitter(draw, first=0.02, most=0.2)
            informer = Informer(through, selection, restarts(), silence=LIST_SECONDS, backoff=backoff)
            informer.handlers.append(follow)
            running = asyncio.create_task(informer.run())
            for turn in range(300):
                await change(direct, namespace, draw, turn)
                await asyncio.sleep(draw.choice([0, 0, 0.05, 0.1]))
            way.calm()
            held = {
                one["metadata"]["name"]: one["metadata"]["resourceVersion"]
                async for one in direct.objects(CONFIG_MAPS, namespace=namespace, labels="toy")
            }
            await until(lambda: held == {name: version for name, version in told.items() if version})
            copied = {key.name: informer.cache.find(key) for key in informer.cache}
            assert held == {name: one["metadata"]["resourceVersion"] for name, one in copied.items() if one}
            assert not [one for one in copied.values() if one and "managedFields" in one["metadata"]]
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    play(scene())


async def change(connection: Connection, namespace: str, draw: random.Random, turn: int) -> None:
    key = Key(namespace, f"thing-{draw.randrange(12)}")
    if draw.random() < 0.3:
        with contextlib.suppress(NotFoundError):
            known = await connection.read(CONFIG_MAPS, key)
            await connection.delete(CONFIG_MAPS, key, uid=uid_of(known), propagation="Background")
    else:
        await connection.apply(config_map(namespace, key.name, turn=str(turn)))


def test_a_version_that_is_too_old(cluster: Any, namespace: str) -> None:
    """A real 410 makes the informer list anew."""

    async def scene() -> None:
        async with connected(cluster.kubeconfig) as connection:
            # The API server knows nothing of this kind from before it was defined.
            await define(connection)
            counter = restarts()
            informer = Informer(connection, Selection(FLJOBS, namespace=namespace), counter)
            informer._version = 1
            running = asyncio.create_task(informer.run())
            await asyncio.wait_for(informer.synced.wait(), 20)
            reasons = {one.labels["reason"] for metric in counter.collect() for one in metric.samples}
            assert reasons == {"Gone"}
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    play(scene())


def test_metadata_only(cluster: Any, namespace: str) -> None:
    """Of kinds whose content nobody reads only the metadata come, under the kind's own name."""

    async def scene() -> None:
        async with connected(cluster.kubeconfig) as connection:
            await connection.apply(config_map(namespace, "a", much="x" * 1000))
            selection = Selection(CONFIG_MAPS, namespace=namespace, metadata_only=True)
            informer = Informer(connection, selection, restarts())
            running = asyncio.create_task(informer.run())
            await asyncio.wait_for(informer.synced.wait(), 20)
            found = informer.cache.find(Key(namespace, "a"))
            assert found
            assert (found["kind"], found["apiVersion"], "data" in found) == ("ConfigMap", "v1", False)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    play(scene())


# -- leaders


def test_never_two_leaders(road: Road, namespace: str) -> None:
    """Replicas that are cut off, stalled and refused take turns, and no two of them ever lead at once."""
    timing = Timing(duration=3, deadline=2, retry=0.2, request=0.7)
    leading: list[str] = []
    turns: list[str] = []

    async def replica(connection: Connection, name: str, stop: asyncio.Event) -> None:
        async def work() -> None:
            assert leading == []
            leading.append(name)
            turns.append(name)
            try:
                await asyncio.sleep(0.5)
            finally:
                leading.remove(name)

        while not stop.is_set():
            with contextlib.suppress(LeaseLostError):
                await Lease(connection, Key(namespace, "operator"), name, timing).lead(work)
            await asyncio.sleep(0.3)

    async def scene() -> None:
        async with road(share=0.15) as way, connected(way.kubeconfig) as connection:
            stop = asyncio.Event()
            replicas = [asyncio.create_task(replica(connection, name, stop)) for name in "abc"]
            await until(lambda: len(turns) >= 8)
            way.calm()
            stop.set()
            await asyncio.gather(*replicas)
            assert len(set(turns)) == 3
            lease = await connection.read(LEASES, Key(namespace, "operator"))
            assert "holderIdentity" not in lease["spec"]

    play(scene(), 150)


def test_a_leader_behind_a_partition(cluster: Any, namespace: str) -> None:
    """A leader that is cut off stops before the next one begins."""
    timing = Timing(duration=3, deadline=2, retry=0.2, request=0.7)
    history: list[str] = []

    async def work(name: str) -> None:
        history.append(f"{name} begins")
        try:
            await asyncio.Event().wait()
        finally:
            history.append(f"{name} ends")

    async def scene() -> None:
        async with (
            FaultProxy(cluster.kubeconfig, Faults()) as proxy,
            connected(proxy.kubeconfig) as cut_off,
            connected(cluster.kubeconfig) as direct,
        ):
            key = Key(namespace, "operator")
            first = asyncio.create_task(Lease(cut_off, key, "first", timing).lead(lambda: work("first")))
            await until(lambda: history)
            second = asyncio.create_task(Lease(direct, key, "second", timing).lead(lambda: work("second")))
            proxy.partition()
            with pytest.raises(LeaseLostError):
                await first
            await until(lambda: len(history) == 3)
            assert history == ["first begins", "first ends", "second begins"]
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)

    play(scene())


# -- events


def test_events(road: Road, namespace: str) -> None:
    """Events are on the object as the API server wants them, and a repeated one is a series."""

    async def scene() -> None:
        async with road(share=0) as way, connected(way.kubeconfig) as connection:
            thing = await persist(lambda: connection.apply(config_map(namespace, "a")))
            recorder = Recorder(connection, "tests")
            running = asyncio.create_task(recorder.run())
            for _ in range(3):
                recorder.record(Note.on(thing, "WorkerLost", "ä" * 2000, warning=True))
            recorder.record(Note.on(thing, "Begun", "it began"))
            await recorder.drain()
            running.cancel()
            found = [one async for one in connection.objects(EVENTS, namespace=namespace)]
            told = {one["reason"]: one for one in found}
            assert set(told) == {"WorkerLost", "Begun"}
            assert told["WorkerLost"]["series"]["count"] == 2
            assert told["WorkerLost"]["regarding"]["uid"] == uid_of(thing)
            assert "series" not in told["Begun"]

    play(scene())


# -- the whole engine


def test_every_parent_gets_its_child(road: Road, cluster: Any, namespace: str) -> None:
    """Whatever goes wrong on the way, in the end every parent has its child, and then nothing is written any more."""

    async def scene() -> None:
        async with road() as way, connected(cluster.kubeconfig) as direct:
            operator = toy_operator(way.kubeconfig, namespace)
            running = asyncio.create_task(operator.run())
            parents = {f"p-{number}": "0" for number in range(30)}
            for name in parents:
                await direct.apply(config_map(namespace, name, x="0"))
            for turn, name in enumerate(random.Random(3).choices(list(parents), k=60)):
                parents[name] = str(turn)
                await direct.apply(config_map(namespace, name, x=str(turn)))
                await asyncio.sleep(0.02)
            way.calm()
            while await children(direct, namespace) != parents:
                assert not running.done(), running
                await asyncio.sleep(0.1)
            await asyncio.sleep(3.0)  # events may still be on their way
            before, began = await versions(direct, namespace), len(way.proxy.log) if way.proxy else 0
            await asyncio.sleep(4.0)
            assert await versions(direct, namespace) == before
            if way.proxy:
                late = [path for method, path in way.proxy.log[began:] if method in WRITES]
                assert late
                assert {path.rpartition("/leases/")[1] for path in late} == {"/leases/"}
            operator.stop.set()
            await running

    play(scene())


def toy_operator(kubeconfig: Path, namespace: str) -> Operator:
    settings = Settings(
        namespace=namespace, watch_namespaces=(namespace,), kubeconfig=kubeconfig, metrics="127.0.0.1:0"
    )
    return Operator(settings, toy.WATCHES, toy.assemble)


async def versions(connection: Connection, namespace: str) -> dict[str, str]:
    found = connection.objects(CONFIG_MAPS, namespace=namespace, labels="toy")
    return {one["metadata"]["name"]: one["metadata"]["resourceVersion"] async for one in found}
