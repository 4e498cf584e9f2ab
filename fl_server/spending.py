"""What a job's rounds spend of its privacy budget, as the coordinator drives it; nothing where the job has none."""

from __future__ import annotations

import asyncio
from typing import Any

from fl_core.plan import Plan
from fl_core.secagg.session import Context
from fl_server.board import Board
from fl_server.checkpoints import Saved
from fl_server.metrics import Metrics
from fl_server.model import Model
from fl_server.origin import Origin
from fl_server.privacy import Privacy
from fl_server.storage import Storage

SPENT = "BudgetSpent"
"""Why a job ends before a round for which its budget has no room."""


class Spending:
    """A job's charges, each on disk before its release; `board` and `metrics` tell the newest epsilon.

    `origin` is the file of a job that begins with one.
    """

    def __init__(self, plan: Plan, storage: Storage, *, board: Board, metrics: Metrics) -> None:
        self.privacy = Privacy.of(plan, storage.folder, parents=storage.parents, within=storage.fence.held)
        self.origin: Origin | None = None
        self._parents = storage.parents
        self._board = board
        self._metrics = metrics

    async def restore(self, saved: Saved | None) -> None:
        """Begin the ledger, or go on with that of an earlier process."""
        if self.privacy is not None:
            if saved is None and self.origin is not None:  # before anything of the parents' is taken over
                await asyncio.to_thread(self.origin.check_ledgers, self._parents)
            seen = saved.facts.get("ledger") if saved is not None else None
            await asyncio.to_thread(self.privacy.open, seen, begun=saved is not None)

    async def settle(self, model: Model | None) -> None:
        """Find what rounds of this model cost; SpecError where the budget has not room for one."""
        if self.privacy is not None and model is not None:
            await asyncio.to_thread(self.privacy.settle, model.manifest)
            self._tell(self.privacy)

    def clip(self, model: Model) -> dict[str, float]:
        """The clip norm of a round that begins with this model, where there is one."""
        if self.privacy is None:
            return {}
        clip = self.privacy.clip(model.clip)
        self._metrics.clip.set(clip)
        return {"clip": clip}

    async def asking(self, number: int, attempt: int) -> None:
        """Workers are about to be asked for updates; where these are releases themselves, that is charged."""
        if self.privacy is not None and self.privacy.at_workers:
            await self.charge(number, attempt)

    async def unmasking(self, context: Context) -> None:
        """A secure sum is about to be opened; one of measurements is not charged: epsilon does not cover them."""
        if context.purpose != "measure":
            await self.charge(context.round, context.attempt)

    async def charge(self, number: int, attempt: int) -> None:
        """The attempt's release stands in the ledger when this returns; once, however often it is called."""
        if self.privacy is not None and await asyncio.to_thread(self.privacy.charge, number, attempt):
            self._tell(self.privacy)

    @property
    def over(self) -> bool:
        """Whether the budget has no room for another release."""
        return self.privacy is not None and not self.privacy.affords()

    @property
    def facts(self) -> dict[str, Any]:
        """What a round's record says of it."""
        return {"privacy": self.privacy.facts} if self.privacy is not None else {}

    @property
    def head(self) -> dict[str, Any]:
        """What a checkpoint remembers of the ledger."""
        return {"ledger": self.privacy.head} if self.privacy is not None else {}

    def farewell(self, reason: str, *, done: int) -> str:
        """What is to be said when a job ends for this reason."""
        return self.privacy.farewell(done) if self.privacy is not None and reason == SPENT else ""

    def _tell(self, privacy: Privacy) -> None:
        self._board.standing.privacy.CopyFrom(privacy.standing)
        self._metrics.private(privacy.facts)
        self._metrics.epsilon.set(privacy.epsilon)
        self._metrics.budget.set(privacy.budget)
