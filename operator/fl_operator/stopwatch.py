"""The processor time of one piece of work among many in an event loop: its own steps, and none of its waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Stopwatch:
    """Seconds of processor time that were counted so far."""

    clock: Callable[[], float] = time.thread_time
    seconds: float = 0.0

    async def measure(self, work: Coroutine[Any, Any, T]) -> T:
        """Do some work and count its steps, and those of what it does by `together`."""
        _CURRENT.set(self)
        return await _Timed(work, self)


_CURRENT: ContextVar[Stopwatch | None] = ContextVar("stopwatch", default=None)


async def together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Do several things at once; when all have ended, their results in order, or the first error."""
    watch = _CURRENT.get()
    timed = [_Timed(work, watch) if watch is not None else work for work in works]
    results = await asyncio.gather(*timed, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


@dataclass(frozen=True, slots=True, eq=False)
class _Timed(Generic[T]):
    """A coroutine each of whose steps is counted."""

    work: Coroutine[Any, Any, T]
    watch: Stopwatch

    def __await__(self) -> Generator[Any, Any, T]:
        resume: Callable[[], Any] = partial(self.work.send, None)
        while True:
            began = self.watch.clock()
            try:
                awaited = resume()
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                self.watch.seconds += self.watch.clock() - began
            try:
                resume = partial(self.work.send, (yield awaited))
            except BaseException as error:  # noqa: BLE001 - it is the work's
                resume = partial(self.work.throw, error)
