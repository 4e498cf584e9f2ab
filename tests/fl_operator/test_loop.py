"""Changes become reconciles; errors become retries; the end is in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from fl_core.errors import SpecError
from fl_operator import loop as loops
from fl_operator.cluster.errors import ConflictError, TooManyRequestsError, UnreachableError
from fl_operator.cluster.resources import FLJOBS, Key
from fl_operator.loop import Loop, Requeue, controller, itself, labelled, wished
from fl_operator.metrics import OperatorMetrics
from fl_operator.workqueue import WorkQueue

A, B = Key("team", "a"), Key("team", "b")


def job(name: str, generation: int, *, seen: int | None = None) -> dict[str, Any]:
    """An FLJob of which one generation has been looked at, if any has."""
    metadata = {"namespace": "team", "name": name, "generation": generation}
    return {"metadata": metadata, **({"status": {"observedGeneration": seen}} if seen else {})}


class World:
    """A loop whose reconciles are answered from a list, then with None."""

    def __init__(self, *answers: Any, everything: tuple[dict[str, Any], ...] = (), **fields: Any) -> None:
        self.registry = CollectorRegistry()
        metrics = OperatorMetrics(self.registry)
        self.answers = list(answers)
        self.looked: list[Key] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.stop = asyncio.Event()
        queue: WorkQueue[Key] = WorkQueue(metrics.queue)
        self.loop = Loop(
            self.reconcile, everything=lambda: everything, queue=queue, metrics=metrics, **fields
        )

    async def reconcile(self, key: Key) -> Requeue | None:
        self.looked.append(key)
        await self.gate.wait()
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def looked_at(self, times: int) -> None:
        while len(self.looked) < times:
            await asyncio.sleep(0.001)

    def results(self) -> dict[str, float]:
        samples = [one for metric in self.registry.collect() for one in metric.samples]
        return {one.labels["result"]: one.value for one in samples if one.name == "fljob_reconcile_total"}


def run(world: Callable[[], World], play: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        made = world()
        async with asyncio.timeout(20):
            running = asyncio.create_task(made.loop.run(made.stop))
            await play(made)
            made.stop.set()
            await running

    asyncio.run(main())


def test_every_added_key_is_looked_at() -> None:
    """Keys that were added are reconciled, and counted."""

    async def play(world: World) -> None:
        world.loop.queue.add(A)
        world.loop.queue.add(B)
        await world.looked_at(2)
        await asyncio.sleep(0)
        assert world.results() == {"success": 2}

    run(World, play)


def test_the_first_and_every_resync() -> None:
    """Everything there is is looked at when the loop begins, and again after each interval."""

    async def play(world: World) -> None:
        await world.looked_at(6)
        assert set(world.looked) == {A, B}

    run(lambda: World(everything=(job("a", 1, seen=1), job("b", 1)), resync_seconds=0.01), play)


def test_requeue() -> None:
    """A reconcile that asks to be called again is called again, when it asked for."""

    async def play(world: World) -> None:
        world.loop.queue.add(A)
        await world.looked_at(2)
        await asyncio.sleep(0.01)
        assert world.results() == {"requeue": 1, "success": 1}

    run(lambda: World(Requeue(0.02)), play)


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (ConflictError("changed"), "conflict"),
        (UnreachableError("no answer"), "wait"),
        (SpecError("wrong"), "error"),
        (ZeroDivisionError("a defect"), "error"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_errors_are_retried(error: Exception, result: str) -> None:
    """Whatever a reconcile raises, the key comes again, other keys go on, and the result is counted."""

    async def play(world: World) -> None:
        world.loop.queue.add(A)
        await world.looked_at(3)
        await asyncio.sleep(0.01)
        assert world.results() == {result: 2, "success": 1}
        assert world.loop.queue._failures == {}
        world.loop.queue.add(B)
        await world.looked_at(4)

    run(lambda: World(error, error), play)


def test_retry_after_is_honoured() -> None:
    """A key whose reconcile the API server asked to wait does not come sooner."""

    async def play(world: World) -> None:
        began = asyncio.get_running_loop().time()
        world.loop.queue.add(A)
        await world.looked_at(2)
        assert asyncio.get_running_loop().time() - began >= 0.2

    run(lambda: World(TooManyRequestsError("wait", code=429, retry_after=0.2)), play)


def test_one_key_one_worker() -> None:
    """However many workers there are, no key is reconciled twice at the same time."""

    async def play(world: World) -> None:
        world.gate.clear()
        for _ in range(5):
            world.loop.queue.add(A)
            await asyncio.sleep(0.005)
        assert world.looked == [A]
        world.gate.set()
        await world.looked_at(2)
        await asyncio.sleep(0.01)
        assert world.looked == [A, A]

    run(lambda: World(workers=8), play)


def test_what_has_begun_may_end() -> None:
    """When the loop is told to stop, running reconciles end and waiting keys are left."""

    async def main() -> None:
        world = World(workers=1)
        world.gate.clear()
        running = asyncio.create_task(world.loop.run(world.stop))
        world.loop.queue.add(A)
        world.loop.queue.add(B)
        await world.looked_at(1)
        world.stop.set()
        await asyncio.sleep(0.01)
        assert not running.done()
        world.gate.set()
        await asyncio.wait_for(running, 5)
        assert world.looked == [A]
        assert world.results() == {"success": 1}

    asyncio.run(main())


def test_what_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reconcile that goes on for longer than the grace is cancelled."""
    monkeypatch.setattr(loops, "GRACE_SECONDS", 0.05)

    async def main() -> None:
        world = World()
        world.gate.clear()
        world.loop.queue.add(A)
        running = asyncio.create_task(world.loop.run(world.stop))
        await world.looked_at(1)
        world.stop.set()
        await asyncio.wait_for(running, 5)
        assert world.results() == {}

    asyncio.run(main())


def test_a_stuck_reconcile_is_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop is healthy while it has nothing to do, and not while a reconcile does not end."""
    monkeypatch.setattr(loops, "STUCK_SECONDS", 0.02)

    async def play(world: World) -> None:
        assert world.loop.progresses()
        world.gate.clear()
        world.loop.queue.add(A)
        await asyncio.sleep(0.05)
        assert not world.loop.progresses()
        world.gate.set()
        await asyncio.sleep(0.01)
        assert world.loop.progresses()

    run(World, play)


class Told:
    """As much of an informer as the loop uses."""

    def __init__(self) -> None:
        self.handlers: list[Callable[[Any, Any], None]] = []


def owned_by(name: str, *, kind: str = "FLJob") -> dict[str, Any]:
    owner = {"apiVersion": "fljob.dev/v1alpha1", "kind": kind, "name": name, "controller": True}
    return {"metadata": {"namespace": "team", "name": "child", "ownerReferences": [owner]}}


def test_a_change_concerns_old_and_new() -> None:
    """An object that changed its owner concerns both, and one that another kind owns nobody."""

    async def main() -> None:
        world, informer = World(), Told()
        world.loop.follow(informer, controller(FLJOBS))  # type: ignore[arg-type]
        [changed] = informer.handlers
        changed(owned_by("a"), owned_by("b"))
        changed(owned_by("job", kind="Job"), None)
        assert len(world.loop.queue) == 0
        await asyncio.sleep(loops.GATHER_SECONDS)
        assert {await world.loop.queue.take() for _ in range(2)} == {A, B}
        assert len(world.loop.queue) == 0

    asyncio.run(main())


def test_whose_change_it_is() -> None:
    """A change concerns the object itself, or what a label of it names, or nobody."""
    thing = {"metadata": {"namespace": "team", "name": "pod", "labels": {"fljob.dev/job": "a"}}}
    assert list(itself(thing)) == [Key("team", "pod")]
    assert list(labelled("fljob.dev/job")(thing)) == [A]
    assert list(labelled("other")(thing)) == []
    assert list(controller(FLJOBS)(thing)) == []


@pytest.mark.parametrize(
    ("old", "new", "at_once"),
    [
        (None, {"generation": 1}, True),
        ({"generation": 1}, {"generation": 2}, True),
        ({"generation": 2}, None, True),
        ({"generation": 2, "resourceVersion": "7"}, {"generation": 2, "resourceVersion": "8"}, False),
    ],
    ids=["came", "another spec", "went", "our own report"],
)
def test_users_do_not_wait(old: Any, new: Any, at_once: bool) -> None:  # noqa: FBT001
    """What a user wishes is looked at at once; what we report of it is gathered with what else happens."""

    async def main() -> None:
        world, informer = World(), Told()
        world.loop.follow(informer, lambda _: [A], at_once=wished)  # type: ignore[arg-type]
        [changed] = informer.handlers
        changed(*(None if metadata is None else {"metadata": metadata} for metadata in (old, new)))
        assert len(world.loop.queue) == at_once
        assert await asyncio.wait_for(world.loop.queue.take(), 5) == A

    asyncio.run(main())


def test_a_wish_overtakes_a_crowd_that_crashes() -> None:
    """However often fifty jobs have news, one that is new or wished otherwise is looked at next."""

    async def play(world: World) -> None:
        informer = Told()
        world.loop.follow(informer, itself, at_once=wished)  # type: ignore[arg-type]
        world.gate.clear()
        for number in range(50):
            world.loop.queue.add(Key("team", f"crash-{number}"))
        await world.looked_at(2)
        informer.handlers[0](None, job("a", 1))
        world.gate.set()
        await world.looked_at(3)
        assert world.looked[2] == A

    run(lambda: World(workers=2), play)


def test_what_was_wished_while_nobody_looked_goes_first() -> None:
    """Who begins to lead looks first at jobs whose spec no status answers, whatever happens to others."""

    async def play(world: World) -> None:
        world.loop.queue.add(A)
        await world.looked_at(4)
        assert [key.name for key in world.looked] == ["changed", "new", "a", "old"]

    things = (job("old", 1, seen=1), job("changed", 2, seen=1), job("new", 1))
    run(lambda: World(everything=things, workers=1), play)


def test_in_a_crowd_changes_are_gathered_for_longer() -> None:
    """While many keys are ready, one that changed waits longer; an empty queue keeps nobody waiting."""

    async def main() -> None:
        world, informer = World(), Told()
        world.loop.follow(informer, controller(FLJOBS))  # type: ignore[arg-type]
        for number in range(2 * loops.CROWD):
            world.loop.queue.add(Key("team", f"job-{number}"))
        [changed] = informer.handlers
        changed(None, owned_by("a"))
        await asyncio.sleep(1.5 * loops.GATHER_SECONDS)
        assert len(world.loop.queue) == 2 * loops.CROWD
        for number in range(2 * loops.CROWD):
            assert await world.loop.queue.take() == Key("team", f"job-{number}")
        assert await asyncio.wait_for(world.loop.queue.take(), 3 * loops.GATHER_SECONDS) == A

    asyncio.run(main())
