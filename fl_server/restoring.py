"""A job's state on the disk: what a server keeps of it, and where one that starts takes it up again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import structlog

from fl_core.lineage import makers
from fl_core.plan import Plan
from fl_core.rounds import Convene, Past
from fl_core.states import States
from fl_core.steps import reached
from fl_server.aggregator import Aggregator
from fl_server.attempts import Abandoned, Attempts
from fl_server.checkpoints import FullError, Saved
from fl_server.counted import Counted
from fl_server.model import Model
from fl_server.record import Resumed
from fl_server.spending import Spending
from fl_server.storage import Storage
from fl_server.sums import Sums

log = structlog.get_logger()

Kept = TypeVar("Kept")

ROOM_SECONDS, ROOM_PAUSE = 30.0, 0.5
"""How long something for which there is no room is tried again, and after what pause."""


@dataclass(frozen=True, slots=True)
class Restored:
    """Where an earlier server left off; `row` is the line, so far, of a round that is committed and not recorded."""

    model: Model
    resumed: Resumed
    best: Mapping[str, float]
    row: Mapping[str, Any]


class Restoring:
    """What is kept of one job between rounds: its model, and what those who make models remember.

    `told` hears of a full disk and, with no word, that there is room again. `kept` is the newest checkpoint's model,
    `past` what earlier servers have begun.
    """

    def __init__(
        self,
        plan: Plan,
        storage: Storage,
        *,
        aggregator: Aggregator,
        sums: Sums | None,
        spending: Spending,
        told: Callable[[str], object],
    ) -> None:
        self._plan = plan
        self._storage = storage
        self._aggregator = aggregator
        self._sums = sums
        self._spending = spending
        self._told = told
        self._attempts = Attempts(storage.attempts)
        self.counted = Counted(plan)
        self.kept: Model | None = None
        self.past = Past()

    async def restore(
        self, *, told: Callable[[str], object], added: Callable[[Iterable[str]], object]
    ) -> Restored | None:
        """Take up the newest checkpoint, if there is one.

        `told` hears of each that is damaged or of another model, `added` the lines that the record has because of it.
        """
        saved = await asyncio.to_thread(self._storage.newest, told)
        self.past = await asyncio.to_thread(self._attempts.restore)
        await self._spending.restore(saved)
        if saved is None:
            await self._resume_sums(self._plan.done)
            found = await asyncio.to_thread(self._storage.resumed, self._plan.done, model="", made=False)
            self._attempts.undone = found.undone
            added(found.told)
            return None
        self.kept = model = Model.of(saved.weights, clip=saved.facts.get("clip", 0.0))
        number, row = saved.facts["round"], dict(saved.facts["row"])
        row |= {"checkpoint": saved.seal} if row else {}
        self.remember(saved.states)
        await self._resume_sums(number)
        best = await asyncio.to_thread(self._storage.model, "best")
        log.info("restored", round=number, model=model.digest)
        found = await asyncio.to_thread(self._storage.resumed, number, model=model.digest, made=bool(row))
        self._attempts.undone = found.undone
        self.counted.restore(found.rows.values())
        added(found.told)
        return Restored(model, found, best.facts["metrics"] if best is not None else {}, row)

    async def _resume_sums(self, done: int) -> None:
        """Take up what is known of the secure sums after round `done`."""
        if self._sums is not None:
            self.past = replace(self.past, bound=await asyncio.to_thread(self._sums.resume, done=done))

    def remember(self, states: States) -> None:
        """Give those who make models what they remembered."""
        self._aggregator.restore(states)
        if self._sums is not None:
            self._sums.restore(states.get("sums", {}))

    def due(self, round: int) -> bool:
        """Whether a checkpoint is kept after this round.

        After each one where sums are secure: workers have signed for its model, and nobody signs for another.
        """
        every = self._sums is not None or round % self._plan.checkpoint.every_rounds == 0
        return every or round == self._plan.rounds

    async def save(self, model: Model, *, round: int, row: Mapping[str, Any]) -> str:
        """Keep a checkpoint after this round, whose line is known so far; gives its seal.

        On a full disk it is tried again for a while: what came of a sum that is signed can be made only once.
        """
        await asyncio.to_thread(reached, "commit", round)
        saved = self._checkpoint(model, round, row)
        seal = await self._patiently(lambda: self._storage.checkpoints.save(saved))
        self.kept = model
        return seal

    async def opening(self, convene: Convene, *, lost: Mapping[str, str]) -> list[Abandoned]:
        """Note the attempt that is about to be opened; gives those of its round that were given up.

        `lost` are those whom this process has lost in the attempt before.
        """
        number, attempt, draw = convene.round, convene.attempt, convene.draw
        self.counted.checkpoints = await asyncio.to_thread(self._storage.checkpoints.rounds)
        return await self._patiently(
            lambda: self._attempts.opening(number, attempt, draw=draw, lost=dict(lost))
        )

    async def _patiently(self, keep: Callable[[], Kept]) -> Kept:
        """Keep something; on a full disk again and again for a while."""
        end, is_full = time.monotonic() + ROOM_SECONDS, False
        while True:
            try:
                kept = await asyncio.to_thread(keep)
            except FullError as error:
                if time.monotonic() > end:
                    raise
                if not is_full:
                    log.warning("no room for what is kept", seconds=ROOM_SECONDS, reason=str(error))
                    self._told(f"{error}; it is tried again for {ROOM_SECONDS:g} s: make room")
                is_full = True
                await asyncio.sleep(ROOM_PAUSE)
            else:
                if is_full:
                    self._told("")
                return kept

    def described(self, model: Model, *, round: int, metrics: Mapping[str, float] | None = None) -> Saved:
        """The model after this round, as it is kept for others."""
        facts = {"round": round, "plan": self._plan.digest, "digest": model.digest}
        facts |= {"clip": model.clip} if model.clip else {}
        return Saved(model.weights, {**facts, "metrics": dict(metrics or {})}, digest=model.digest)

    def _checkpoint(self, model: Model, round: int, row: Mapping[str, Any]) -> Saved:
        saved = self.described(model, round=round)
        facts = {**saved.facts, "row": row, **self._spending.head, "makers": makers(self._plan)}
        sums = {"sums": self._sums.state} if self._sums is not None else {}
        return replace(saved, facts=facts, states={**self._aggregator.states, **sums})
