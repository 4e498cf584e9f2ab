"""A piece of work is charged for its own steps, wherever it waits and whatever else runs meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from fl_operator.stopwatch import Stopwatch, together


class Clock:
    """Processor time that passes only when somebody works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def work(self, *steps: float) -> float:
        """Use so much time in each step, with a wait after it."""
        for seconds in steps:
            self.now += seconds
            await asyncio.sleep(0.001)
        return sum(steps)


def measured(clock: Clock, work: Coroutine[Any, Any, Any], *beside: Coroutine[Any, Any, Any]) -> Stopwatch:
    """The stopwatch of some work that is done while others work, too."""
    watch = Stopwatch(clock)

    async def main() -> None:
        await asyncio.gather(watch.measure(work), *beside)

    asyncio.run(asyncio.wait_for(main(), 20))
    return watch


def test_own_steps_only() -> None:
    """All steps of the work count, and none of those of other work that runs while it waits."""
    clock = Clock()
    assert measured(clock, clock.work(1, 2, 3), clock.work(10, 20, 30)).seconds == 6
    assert clock.now == 66


def test_what_is_done_together_counts() -> None:
    """Things done at once are charged to who asked for them, at any depth, and give their results in order."""
    clock = Clock()

    async def outer() -> None:
        clock.now += 1
        assert await together([clock.work(2), inner(), clock.work(4)]) == [2, 24, 4]

    async def inner() -> float:
        return sum(await together([clock.work(8), clock.work(16)]))

    assert measured(clock, outer(), clock.work(100)).seconds == 31


def test_all_end_before_an_error_is_told() -> None:
    """When one of several things fails, the others are done all the same; then the first error is raised."""
    clock = Clock()

    async def fails(text: str) -> float:
        raise ValueError(text)

    async def outer() -> None:
        with pytest.raises(ValueError, match="first"):
            await together([clock.work(1, 1), fails("first"), fails("second")])
        assert clock.now == 2

    assert measured(clock, outer()).seconds == 2
    with pytest.raises(ValueError, match="alone"):
        asyncio.run(Stopwatch().measure(fails("alone")))


def test_cancellation_reaches_the_work() -> None:
    """Work that is cancelled while it waits may clean up, and its time until then is known."""
    clock, cleaned = Clock(), []

    async def waits() -> None:
        clock.now += 1
        try:
            await asyncio.Event().wait()
        finally:
            clock.now += 2
            cleaned.append(True)

    async def main() -> float:
        watch = Stopwatch(clock)
        task = asyncio.create_task(watch.measure(together([waits()])))
        await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        return watch.seconds

    assert asyncio.run(main()) == 3
    assert cleaned == [True]
