"""The level-triggered loop: what changed becomes keys, and each key is made right by one worker at a time.

What changed is never passed on, only where: a reconcile looks at everything as it is now, so that lost, repeated
and late news do no harm.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from fl_core.errors import FLJobError, RetryError
from fl_operator.cluster.errors import ClusterError, ConflictError
from fl_operator.cluster.informer import Informer
from fl_operator.cluster.resources import Key, Object, Resource, key_of, owner_of
from fl_operator.metrics import OperatorMetrics
from fl_operator.stopwatch import Stopwatch
from fl_operator.workqueue import ClosedError, Urgency, WorkQueue

log = structlog.get_logger()

RESYNC_JITTER = 0.1
GRACE_SECONDS = 20.0
"""How long reconciles may go on when the process ends."""

GATHER_SECONDS = 0.5
"""The children of a job change together; it is looked at once for all that happens to them in this time."""
CROWD = 25
"""For each so many keys that are ready, others wait once longer: in a crowd what happens to a job is further apart."""
LONGEST_GATHER_SECONDS = 5.0
"""As long as news of the training may wait."""

STUCK_SECONDS = 300.0
"""A reconcile that takes longer will never end: each request of it is bounded."""


@dataclass(frozen=True, slots=True)
class Requeue:
    """Look again after so many seconds, whatever happens until then."""

    after: float


Reconcile = Callable[[Key], Awaitable[Requeue | None]]
KeysOf = Callable[[Object], Iterable[Key]]
"""Which keys an object's change concerns."""
Change = Callable[[Object | None, Object | None], bool]
"""A question about a change: whether anything follows from it, whether somebody waits for that; None where there
was, or is, no object."""


def itself(thing: Object) -> Iterable[Key]:
    """The object's own key."""
    return (key_of(thing),)


def controller(resource: Resource) -> KeysOf:
    """The key of the object of this kind that controls it."""

    def keys(thing: Object) -> Iterable[Key]:
        owner = owner_of(thing)
        if owner and (owner.get("apiVersion"), owner.get("kind")) == (resource.api_version, resource.kind):
            return (Key(key_of(thing).namespace, owner["name"]),)
        return ()

    return keys


def labelled(label: str) -> KeysOf:
    """The key of the object of its namespace that a label names."""

    def keys(thing: Object) -> Iterable[Key]:
        name = (thing["metadata"].get("labels") or {}).get(label)
        return (Key(key_of(thing).namespace, name),) if name else ()

    return keys


def never(_old: Object | None, _new: Object | None) -> bool:
    """Nobody waits."""
    return False


def always(_old: Object | None, _new: Object | None) -> bool:
    """Something may follow from any change."""
    return True


def wished(old: Object | None, new: Object | None) -> bool:
    """An object came or went, or another spec is wished for; a change of its status alone is our own report."""
    return (
        old is None or new is None or old["metadata"].get("generation") != new["metadata"].get("generation")
    )


def _is_answered(thing: Object) -> bool:
    """Whether an object's status says that somebody has looked at its spec."""
    status = thing.get("status") or {}
    return bool(status.get("observedGeneration") == thing["metadata"].get("generation"))


@dataclass(slots=True)
class Loop:
    """Runs `reconcile` for every key that something happened to, and for all of them now and then."""

    reconcile: Reconcile
    everything: Callable[[], Iterable[Object]]
    """All objects whose keys are looked at, for resyncs."""
    queue: WorkQueue[Key]
    metrics: OperatorMetrics
    workers: int = 4
    resync_seconds: float = 600.0
    random: random.Random = field(default_factory=random.Random)

    def follow(
        self, informer: Informer, keys: KeysOf, *, at_once: Change = never, news: Change = always
    ) -> None:
        """From now on look at the keys that a change of these objects concerns, once for all changes within
        GATHER_SECONDS unless somebody waits; what there is already is found by the first resync.
        """

        def changed(old: Object | None, new: Object | None) -> None:
            if not news(old, new):
                return
            for key in {key for thing in (old, new) if thing for key in keys(thing)}:
                if at_once(old, new):
                    self.queue.add(key, Urgency.WISH)
                else:
                    self.queue.add_after(key, self._patience(GATHER_SECONDS))

        informer.handlers.append(changed)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop; reconciles that have begun may end."""
        async with asyncio.TaskGroup() as group:
            resync = group.create_task(self._resync())
            workers = [group.create_task(self._work()) for _ in range(self.workers)]
            await stop.wait()
            self.queue.close()
            await asyncio.wait(workers, timeout=GRACE_SECONDS)
            for task in (resync, *workers):
                task.cancel()

    def progresses(self) -> bool:
        """Whether no reconcile is stuck."""
        return max(self.queue.running(), default=0.0) < STUCK_SECONDS

    async def _resync(self) -> None:
        """Look at everything, first at what was wished while nobody looked."""
        while True:
            for thing in self.everything():
                self.queue.add(key_of(thing), Urgency.RESYNC if _is_answered(thing) else Urgency.WISH)
            spread = self.random.uniform(1 - RESYNC_JITTER, 1 + RESYNC_JITTER)
            await asyncio.sleep(self.resync_seconds * spread)

    async def _work(self) -> None:
        with suppress(ClosedError):
            while True:
                key = await self.queue.take()
                try:
                    await self._look_at(key)
                finally:
                    self.queue.done(key)

    async def _look_at(self, key: Key) -> None:
        began, own = time.perf_counter(), Stopwatch()
        with structlog.contextvars.bound_contextvars(job=str(key)):
            turn = self.queue.turn(key)
            result = await own.measure(self._result(key))
            log.debug("looked at", result=result, waited=round(turn.waited, 3), behind=turn.behind)
        self.metrics.reconciles.labels(result).inc()
        self.metrics.duration.observe(time.perf_counter() - began)
        self.metrics.cpu.observe(own.seconds)

    async def _result(self, key: Key) -> str:
        """Reconcile a key and say how it went; this is the one place that survives every error."""
        try:
            requeue = await self.reconcile(key)
        except ConflictError as error:
            log.debug("changed meanwhile", reason=str(error))
            self.queue.retry(key)
            return "conflict"
        except RetryError as error:
            least = (error.retry_after if isinstance(error, ClusterError) else None) or 0.0
            log.warning("waiting", reason=str(error), seconds=round(self.queue.retry(key, least=least), 3))
            return "wait"
        except FLJobError as error:
            seconds = round(self.queue.retry(key), 3)
            log.error("refused", reason=str(error), seconds=seconds)  # noqa: TRY400 - the sentence says it
            return "error"
        except Exception:
            log.exception("reconcile failed", seconds=round(self.queue.retry(key), 3))
            return "error"
        self.queue.forget(key)
        if requeue is None:
            return "success"
        self.queue.add_after(key, self._patience(requeue.after))
        return "requeue"

    def _patience(self, seconds: float) -> float:
        """How long a key waits for more to happen to it where these seconds are enough as a rule."""
        return min(seconds * (1 + len(self.queue) // CROWD), max(seconds, LONGEST_GATHER_SECONDS))
