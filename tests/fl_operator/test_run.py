"""The whole process but its logic: over real sockets, in front of a small API server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml
from aiohttp import web

from fl_operator.cluster.errors import ClusterError
from fl_operator.cluster.events import Note
from fl_operator.cluster.informer import Selection
from fl_operator.cluster.lease import LeaseLostError
from fl_operator.cluster.resources import CONFIG_MAPS, EVENTS, LEASES, Key
from fl_operator.cluster.transport import Request
from fl_operator.loop import Requeue, itself, wished
from fl_operator.run import Engine, Operator, Parts, Watch
from fl_operator.settings import Settings

LEASE = LEASES.path("system", "fljob-operator")


@asynccontextmanager
async def served(memory: Any, folder: Path) -> AsyncIterator[Path]:
    """The API server behind HTTP; gives a kubeconfig."""

    async def answer(request: web.Request) -> web.StreamResponse:
        text = await request.text()
        asked = Request(
            request.method,
            request.path,
            query=dict(request.query),
            body=json.loads(text) if text else None,
            content_type=request.headers["Content-Type"],
        )
        try:
            if "watch" not in asked.query:
                return web.json_response(await memory.send(asked))
            response = web.StreamResponse()
            await response.prepare(request)
            async for event in memory.lines(asked):
                await response.write(json.dumps(event).encode() + b"\n")
        except ClusterError as error:
            reason = "AlreadyExists" if "AlreadyExists" in str(error) else ""
            return web.json_response({"reason": reason, "message": str(error)}, status=error.code)
        else:
            return response

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    config = folder / "config"
    server = f"http://127.0.0.1:{runner.addresses[0][1]}"
    config.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "c", "cluster": {"server": server}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "users": [{"name": "u", "user": {}}],
                "current-context": "x",
            }
        ),
        encoding="utf-8",
    )
    try:
        yield config
    finally:
        await runner.cleanup()


class World:
    """Replicas that copy ConfigMaps and note which keys they looked at."""

    def __init__(self, memory: Any, config: Path) -> None:
        self.memory, self.config = memory, config
        self.looked: list[tuple[str, Key]] = []
        self.services: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, operator: Operator) -> asyncio.Task[None]:
        self.tasks.append(asyncio.create_task(operator.run()))
        return self.tasks[-1]

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def replica(self, identity: str) -> Operator:
        async def assemble(_: Engine) -> Parts:
            async def reconcile(key: Key) -> Requeue | None:
                self.looked.append((identity, key))
                return None

            return Parts(reconcile, leading=[self.service("leading")], always=[self.service("always")])

        settings = Settings(
            namespace="system",
            kubeconfig=self.config,
            metrics="127.0.0.1:0",
            identity=identity,
            workers=2,
        )
        return Operator(settings, [Watch(Selection(CONFIG_MAPS), itself, at_once=wished)], assemble)

    def service(self, name: str) -> Callable[[], Any]:
        async def running() -> None:
            self.services.append(name)
            try:
                await asyncio.Event().wait()
            finally:
                self.services.remove(name)

        return running


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


@pytest.fixture
def play(memory: Any, tmp_path: Path) -> Callable[[Callable[[World], Awaitable[None]]], None]:
    """Play a scene in front of a small API server."""

    async def main(scene: Callable[[World], Awaitable[None]]) -> None:
        async with asyncio.timeout(30), served(memory, tmp_path) as config:
            world = World(memory, config)
            try:
                await scene(world)
            finally:
                await world.end()

    return lambda scene: asyncio.run(main(scene))


Play = Callable[[Callable[[World], Awaitable[None]]], None]


def page(operator: Operator, path: str) -> Awaitable[tuple[int, str]]:
    def fetched() -> tuple[int, str]:
        try:
            with urlopen(f"http://{operator.address}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except OSError as error:
            return getattr(error, "code", 0), ""

    return asyncio.to_thread(fetched)


async def depth(operator: Operator) -> float:
    """How many keys wait in a replica, as it says."""
    _, text = await page(operator, "/metrics")
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith("workqueue_depth{")))


def test_from_start_to_end(play: Play) -> None:
    """Leads, reconciles what is there and what comes, is healthy and ready; ends in order and frees the Lease."""

    async def scene(world: World) -> None:
        world.memory.config_map("a")
        operator = world.replica("one")
        running = world.start(operator)
        await until(lambda: world.looked)
        world.memory.config_map("b")
        await until(lambda: len(world.looked) == 2)
        assert [key.name for _, key in world.looked] == ["a", "b"]
        assert sorted(world.services) == ["always", "leading"]
        assert ((await page(operator, "/healthz"))[0], (await page(operator, "/readyz"))[0]) == (200, 200)
        _, metrics = await page(operator, "/metrics")
        assert "fljob_leader 1.0" in metrics
        assert 'fljob_reconcile_total{result="success"} 2.0' in metrics
        operator.stop.set()
        await running
        assert world.memory.objects[LEASE]["spec"]["holderIdentity"] is None
        assert world.services == []
        assert world.memory.watches == []

    play(scene)


def test_two_replicas(play: Play) -> None:
    """Only the leader works; the other is ready meanwhile, and takes over everything when the first one ends."""

    async def scene(world: World) -> None:
        world.memory.config_map("a")
        first, second = world.replica("one"), world.replica("two")
        leading = world.start(first)
        await until(lambda: world.looked)
        waiting = world.start(second)
        await until(lambda: second.health.ready)
        assert world.services.count("always") == 2
        world.memory.config_map("b")
        await until(lambda: len(world.looked) == 2)
        assert {identity for identity, _ in world.looked} == {"one"}
        first.stop.set()
        await leading
        await until(lambda: ("two", Key("default", "b")) in world.looked)
        assert ("two", Key("default", "a")) in world.looked
        second.stop.set()
        await waiting

    play(scene)


def test_a_standby_keeps_no_keys(play: Play) -> None:
    """What is listed, and what comes, makes no queue in a replica that does not lead; the leader looks at all."""

    async def scene(world: World) -> None:
        for number in range(30):
            world.memory.config_map(f"listed-{number}")
        leading, standby = world.replica("one"), world.replica("two")
        world.start(leading)
        await until(lambda: leading.health.ready and len(world.looked) == 30)
        world.start(standby)
        await until(lambda: standby.health.ready)
        for number in range(30):
            world.memory.config_map(f"made-{number}")
        await until(lambda: len(world.looked) == 60)
        assert {await depth(replica) for replica in (leading, standby)} == {0.0}
        _, metrics = await page(standby, "/metrics")
        assert 'workqueue_adds_total{name="fljob"} 0.0' in metrics

    play(scene)


def test_a_stolen_lease_ends_the_process(play: Play) -> None:
    """A leader whose Lease was taken stops with an error, and does not touch the Lease again."""

    async def scene(world: World) -> None:
        operator = world.replica("one")
        running = world.start(operator)
        await until(lambda: "leading" in world.services)
        stolen = world.memory.objects[LEASE]
        world.memory.put(LEASE, {**stolen, "spec": {**stolen["spec"], "holderIdentity": "thief"}})
        with pytest.raises(LeaseLostError):
            await running
        assert world.memory.objects[LEASE]["spec"]["holderIdentity"] == "thief"
        assert world.services == []

    play(scene)


def test_what_has_begun_ends_before_the_process(play: Play) -> None:
    """A reconcile that is under way when the process is told to stop may end, and its events are written."""

    async def scene(world: World) -> None:
        operator = world.replica("one")

        async def assemble(engine: Engine) -> Parts:
            async def reconcile(key: Key) -> Requeue | None:
                world.looked.append(("one", key))
                await operator.stop.wait()
                await asyncio.sleep(0.1)
                thing = engine.mirror.find(CONFIG_MAPS, key)
                engine.recorder.record(Note.on(thing or {}, "Looked", "at it"))
                return None

            return Parts(reconcile)

        operator.assemble = assemble
        running = world.start(operator)
        world.memory.config_map("a")
        await until(lambda: world.looked)
        operator.stop.set()
        await running
        assert [path for path in world.memory.objects if path.startswith(EVENTS.path("default"))]

    play(scene)


def test_not_ready_without_a_copy(play: Play) -> None:
    """A replica that could not list yet is healthy, not ready, and can be stopped."""

    async def scene(world: World) -> None:
        world.memory.failing = [ClusterError("no", code=500) for _ in range(1000)]
        operator = world.replica("one")
        running = world.start(operator)
        await until(lambda: operator.address)
        assert ((await page(operator, "/healthz"))[0], (await page(operator, "/readyz"))[0]) == (200, 503)
        operator.stop.set()
        await running

    play(scene)


def test_a_service_that_breaks_ends_the_process(play: Play) -> None:
    """An error of a service is not hidden: the process ends with it."""

    async def scene(world: World) -> None:
        async def assemble(_: Engine) -> Parts:
            async def broken() -> None:
                raise ZeroDivisionError

            async def reconcile(_: Key) -> None:
                """Nothing to do."""

            return Parts(reconcile, leading=[broken])

        operator = world.replica("one")
        operator.assemble = assemble
        with pytest.raises(ZeroDivisionError):
            await operator.run()
        assert world.memory.objects[LEASE]["spec"]["holderIdentity"] is None

    play(scene)
