"""What is to be carried out next: the rounds' actions in their order, and what ends the job, as it comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from fl_core.errors import FLJobError
from fl_core.rounds import Action, Rounds


class Agenda:
    """A queue of actions that wakes the rounds when their time has come; `ticked` is called for that."""

    def __init__(self, rounds: Rounds, *, ticked: Callable[[], None]) -> None:
        self._rounds = rounds
        self._ticked = ticked
        self._actions: asyncio.Queue[Action | FLJobError | None] = asyncio.Queue()

    def add(self, actions: Iterable[Action]) -> None:
        """To be carried out; without any, the time to wake is looked at anew."""
        for action in actions:
            self._actions.put_nowait(action)
        self._actions.put_nowait(None)

    def fail(self, error: FLJobError) -> None:
        """`next` raises this."""
        self._actions.put_nowait(error)

    async def next(self) -> Action:
        """The next action; raises the error that came instead of one."""
        getter = asyncio.ensure_future(self._actions.get())
        try:
            while True:
                wake = self._rounds.wake()
                timeout = None if wake is None else max(wake - time.monotonic(), 0)
                done, _ = await asyncio.wait({getter}, timeout=timeout)
                if not done:
                    self._ticked()
                elif isinstance(found := getter.result(), FLJobError):
                    raise found
                elif found is not None:
                    return found
                else:
                    getter = asyncio.ensure_future(self._actions.get())
        finally:
            getter.cancel()
