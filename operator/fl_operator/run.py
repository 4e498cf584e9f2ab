"""`fl-operator run`: connect, follow, become the leader, work, and end in order."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from fl_core.serving import Health, answering, serve
from fl_operator.cluster.connection import Connection
from fl_operator.cluster.events import Recorder
from fl_operator.cluster.informer import Selection
from fl_operator.cluster.lease import Lease
from fl_operator.cluster.mirror import Mirror
from fl_operator.cluster.resources import Key
from fl_operator.loop import GRACE_SECONDS, Change, KeysOf, Loop, Reconcile, always, never
from fl_operator.metrics import OperatorMetrics
from fl_operator.settings import Settings
from fl_operator.workqueue import WorkQueue

log = structlog.get_logger()

DRAIN_SECONDS = 2.0
"""How long events may still be written when the process ends."""

GARBAGE = 20_000
"""New objects that are alive before cycles are looked for among them."""

Service = Callable[[], Coroutine[Any, Any, None]]
"""Something that goes on until it is cancelled."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Objects to keep a live copy of, and the FLJobs that their changes concern."""

    selection: Selection
    keys: KeysOf
    at_once: Change = never
    news: Change = always


@dataclass(frozen=True, slots=True)
class Engine:
    """What the engine gives to the operator's own logic."""

    settings: Settings
    connection: Connection
    mirror: Mirror
    recorder: Recorder
    metrics: OperatorMetrics
    look_at: Callable[[Key], None]
    """Have a job reconciled."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the operator's own logic gives to the engine."""

    reconcile: Reconcile
    leading: Sequence[Service] = ()
    """Services of the leader only."""
    always: Sequence[Service] = ()
    """Services of every replica."""


Assemble = Callable[[Engine], Coroutine[Any, Any, Parts]]


@dataclass(slots=True)
class Operator:
    """The whole process: `watches`, the first of which is that of the FLJobs, and what `assemble` adds."""

    settings: Settings
    watches: Sequence[Watch]
    assemble: Assemble
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    health: Health = field(default_factory=Health)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    address: str = ""
    """Where metrics and probes are served, as soon as they are."""
    _leads: bool = False

    async def run(self) -> None:
        """Work until told to stop; raises what ends it otherwise, such as LeaseLostError."""
        metrics = OperatorMetrics(self.registry)
        connection = await Connection.open(
            self.settings.kubeconfig,
            rate=self.settings.request_rate,
            burst=self.settings.request_burst,
            metrics=metrics.client,
        )
        error = None
        try:
            await self._run(connection, metrics)
        except BaseExceptionGroup as group:
            error = _first(group)
        finally:
            await connection.close()
        if error:
            raise error

    async def _run(self, connection: Connection, metrics: OperatorMetrics) -> None:
        engine, queue = self._engine(connection, metrics)
        parts = await self.assemble(engine)
        loop = self._loop(engine, queue, parts.reconcile)
        running = asyncio.get_running_loop()
        self.health.alive = lambda: loop.progresses() and answering(running)()
        self.address = serve(self.settings.metrics, self.registry, self.health)
        log.info("started", metrics=self.address, identity=self.settings.identity)
        async with asyncio.TaskGroup() as group:
            services = (engine.mirror.run, engine.recorder.run, *parts.always)
            tasks = [group.create_task(service()) for service in services]
            leading = group.create_task(self._lead(engine, loop, parts.leading))
            await self.stop.wait()
            log.info("ending")
            if self._leads:
                await asyncio.wait({leading}, timeout=GRACE_SECONDS + DRAIN_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_SECONDS):
                    await engine.recorder.drain()
            for task in (leading, *tasks):
                task.cancel()

    def _engine(self, connection: Connection, metrics: OperatorMetrics) -> tuple[Engine, WorkQueue[Key]]:
        queue: WorkQueue[Key] = WorkQueue(metrics.queue)
        mirror = Mirror(
            connection,
            [watch.selection for watch in self.watches],
            namespaces=self.settings.watch_namespaces,
            restarts=metrics.watch_restarts,
        )
        recorder = Recorder(connection, self.settings.identity)
        return Engine(self.settings, connection, mirror, recorder, metrics, queue.add), queue

    def _loop(self, engine: Engine, queue: WorkQueue[Key], reconcile: Reconcile) -> Loop:
        jobs = self.watches[0].selection.resource
        return Loop(
            reconcile,
            everything=lambda: engine.mirror.objects(jobs),
            queue=queue,
            metrics=engine.metrics,
            workers=self.settings.workers,
            resync_seconds=self.settings.resync_seconds,
        )

    def _follow(self, mirror: Mirror, loop: Loop) -> None:
        """Have the keys of what changes looked at; in a replica that does not lead nobody would take them."""
        for watch in self.watches:
            for informer in mirror.informers(watch.selection.resource):
                loop.follow(informer, watch.keys, at_once=watch.at_once, news=watch.news)

    async def _lead(self, engine: Engine, loop: Loop, services: Sequence[Service]) -> None:
        """Wait until the caches are whole and the Lease is ours; then work."""

        async def work() -> None:
            self._leads = True
            engine.metrics.leader.set(1)
            self._follow(engine.mirror, loop)
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(service()) for service in services]
                    await loop.run(self.stop)
                    for task in tasks:
                        task.cancel()
            finally:
                engine.metrics.leader.set(0)

        await engine.mirror.synced()
        self.health.ready = True
        if not self.settings.leader_election:
            return await work()
        key = Key(self.settings.namespace, self.settings.lease)
        return await Lease(engine.connection, key, self.settings.identity).lead(work)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error in a group of errors or groups."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def run_until_stopped(operator: Operator) -> None:
    """Run the operator in an event loop of its own; SIGTERM and SIGINT end it in order."""

    async def supervised() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, operator.stop.set)
        await operator.run()

    # What was imported lives on; to look through it with each full collection would take most of that time.
    gc.freeze()
    # One object of the API is hundreds of maps and lists, and hardly ever part of a cycle.
    gc.set_threshold(GARBAGE, 20, 10)
    asyncio.run(supervised())
