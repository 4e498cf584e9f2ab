"""Keys wait once, are worked on once, and come again when they should."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from fl_operator.metrics import QueueMetrics
from fl_operator.pace import TokenBucket
from fl_operator.workqueue import ClosedError, Urgency, WorkQueue


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    """A queue with a clock of its own."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.registry = CollectorRegistry()
        self.queue: WorkQueue[str] = WorkQueue(QueueMetrics(self.registry, name="test"), clock=self.clock)

    async def take(self) -> str | None:
        """The next key, or None if a worker would have to wait."""
        task = asyncio.create_task(self.queue.take())
        for _ in range(5):
            await asyncio.sleep(0)
        if task.done():
            return task.result()
        task.cancel()
        return None

    def metric(self, name: str) -> float | None:
        return self.registry.get_sample_value(f"workqueue_{name}", {"name": "test"})


def run(play: Callable[[World], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(10):
            await play(World())

    asyncio.run(limited())


def test_duplicates_are_merged() -> None:
    """A key that waits already is not added again."""

    async def play(world: World) -> None:
        for key in ("a", "b", "a"):
            world.queue.add(key)
        assert [await world.take() for _ in range(3)] == ["a", "b", None]
        assert world.metric("adds_total") == 2

    run(play)


def test_one_worker_at_a_time() -> None:
    """A key that is added while it is worked on waits until that worker is done, and comes once more."""

    async def play(world: World) -> None:
        world.queue.add("a")
        assert await world.take() == "a"
        world.queue.add("a")
        world.queue.add("a")
        assert await world.take() is None
        world.queue.done("a")
        assert [await world.take(), await world.take()] == ["a", None]

    run(play)


def test_changes_before_resyncs() -> None:
    """What somebody changed overtakes resyncs, also where the same key waits for a resync."""

    async def play(world: World) -> None:
        for key in "abc":
            world.queue.add(key, Urgency.RESYNC)
        world.queue.add("new")
        world.queue.add("c")
        world.queue.add("c", Urgency.RESYNC)
        assert [await world.take() for _ in range(5)] == ["new", "c", "a", "b", None]

    run(play)


def test_wishes_before_changes() -> None:
    """A new key is behind those that workers have, and behind no crowd to which much happens; it says so."""

    async def play(world: World) -> None:
        crowd = [f"crash-{number}" for number in range(50)]
        for key in crowd:
            world.queue.add(key)
        first = await world.take()
        world.queue.add("good", Urgency.WISH)
        world.queue.add(crowd[7], Urgency.WISH)
        world.queue.done(first or "")
        world.queue.add(first or "")
        assert [await world.take() for _ in range(3)] == ["good", crowd[7], crowd[1]]
        assert [world.queue.turn(key).behind for key in ("good", crowd[7], crowd[1])] == [0, 2, 3]

    run(play)


def test_delays() -> None:
    """A delayed key comes when its time is there, at the nearest of several times, and only once."""

    async def play(world: World) -> None:
        world.queue.add_after("a", 10)
        world.queue.add_after("a", 5)
        world.queue.add_after("a", 20)
        world.clock.now += 4.9
        assert await world.take() is None
        world.clock.now += 0.2
        assert await world.take() == "a"
        world.queue.done("a")
        world.clock.now += 100
        assert await world.take() is None

    run(play)


def test_a_look_makes_an_old_delay_void() -> None:
    """Who was looked at for another reason has said anew when to come, so the old time is forgotten."""

    async def play(world: World) -> None:
        world.queue.add_after("a", 10)
        world.queue.add("a")
        assert await world.take() == "a"
        world.queue.add_after("a", 50)
        world.queue.done("a")
        world.clock.now += 20
        assert await world.take() is None
        world.clock.now += 31
        assert await world.take() == "a"

    run(play)


def test_backoff_per_key() -> None:
    """Each failure of a key doubles its wait from 5 ms to 1000 s; success and other keys begin anew."""

    async def play(world: World) -> None:
        world.queue.bucket = TokenBucket(0, 1)
        waits = [world.queue.retry("a") for _ in range(20)]
        assert waits[:4] == [0.005, 0.01, 0.02, 0.04]
        assert waits[-1] == 120
        assert world.queue.retry("b") == 0.005
        world.queue.forget("a")
        assert world.queue.retry("a") == 0.005
        assert world.queue.retry("c", least=7) == 7
        assert world.metric("retries_total") == 23

    run(play)


def test_many_failures_share_a_bucket() -> None:
    """When everything fails at once, retries come no faster than the bucket lets them."""

    async def play(world: World) -> None:
        waits = [world.queue.retry(f"key-{number}") for number in range(300)]
        assert waits[99] == 0.005
        assert waits[299] == pytest.approx(20.0)

    run(play)


def test_the_end() -> None:
    """A closed queue wakes the workers that wait, and takes nothing more."""

    async def play(world: World) -> None:
        waiting = [asyncio.create_task(world.queue.take()) for _ in range(3)]
        await asyncio.sleep(0)
        world.queue.close()
        world.queue.add("late")
        assert all(
            isinstance(one, ClosedError) for one in await asyncio.gather(*waiting, return_exceptions=True)
        )

    run(play)


def test_metrics() -> None:
    """Depth, waiting, working and unfinished work are measured under client-go's names."""

    async def play(world: World) -> None:
        world.queue.add("a")
        world.queue.add("b")
        assert world.metric("depth") == 2
        world.clock.now += 3
        assert await world.take() == "a"
        assert world.metric("queue_duration_seconds_sum") == 3
        world.clock.now += 4
        assert world.metric("unfinished_work_seconds") == 4
        assert world.metric("longest_running_processor_seconds") == 4
        world.queue.done("a")
        assert world.metric("work_duration_seconds_sum") == 4
        assert world.metric("depth") == 1

    run(play)


def test_waiting_costs_nothing_and_ends_in_time() -> None:
    """A worker that waits for a delayed key gets it when a real clock says so, and no sooner."""

    async def play(_: World) -> None:
        queue: WorkQueue[str] = WorkQueue(QueueMetrics(CollectorRegistry(), name="real"))
        loop = asyncio.get_running_loop()
        began = loop.time()
        queue.add_after("a", 0.05)
        assert await queue.take() == "a"
        assert 0.04 < loop.time() - began < 1

    run(play)


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "resync", "later", "retry", "take", "done"]), st.sampled_from("abc")),
    max_size=40,
)


def ask(queue: WorkQueue[str], step: str, key: str) -> None:
    match step:
        case "add":
            queue.add(key)
        case "resync":
            queue.add(key, Urgency.RESYNC)
        case "later":
            queue.add_after(key, 1)
        case "retry":
            queue.retry(key)


@settings(deadline=None, max_examples=100)
@given(steps=STEPS)
def test_nothing_is_lost_and_nothing_runs_twice(steps: list[tuple[str, str]]) -> None:
    """Whatever is asked for, and in what order: each key comes after it was asked for, never to two at once."""

    async def play(world: World) -> None:
        owed: set[str] = set()
        working: list[str] = []
        for step, key in steps:
            if step == "take":
                taken = await world.take()
                assert taken not in working
                working += [taken] if taken else []
                owed.discard(taken or "")
            elif step == "done":
                if working:
                    world.queue.done(working.pop(0))
            else:
                ask(world.queue, step, key)
                owed.add(key)
        for key in working:
            world.queue.done(key)
        world.clock.now += 10_000
        while taken := await world.take():
            owed.discard(taken)
            world.queue.done(taken)
        assert (owed, len(world.queue)) == (set(), 0)

    run(play)
