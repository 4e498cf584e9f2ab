"""From one model to the next: updates are folded into one exact sum as they come, then the strategy steps."""

from __future__ import annotations

import asyncio

from fl_core.aggregation import Rule
from fl_core.errors import JobError, UpdateError
from fl_core.extensions import blamed, build
from fl_core.plan import Plan
from fl_core.privacy.job import wire_of
from fl_core.secagg.summands import Summed
from fl_core.stages import Pipeline, State
from fl_core.strategies import Strategy
from fl_core.updates import ExactSum
from fl_core.weights import Manifest
from fl_server.memory import States
from fl_server.model import Model
from fl_server.privacy import Privacy
from fl_server.spool import Spool


class Aggregator:
    """The open attempt's sum, and what strategy and stages remember from round to round."""

    def __init__(self, plan: Plan, privacy: Privacy | None = None) -> None:
        self._privacy = privacy
        self._strategy = build(plan.strategy, within="fl_core.strategies", protocol=Strategy)
        self._rule = build(plan.aggregation, within="fl_core.aggregation", protocol=Rule)
        self._pipeline = Pipeline.of(plan.compression)
        self._capacity = plan.selection.asked
        self._strategy_state: State = {}
        self._stage_states = self._pipeline.fresh()
        self._sum: ExactSum | Summed | None = None
        self._folds: list[asyncio.Task[None]] = []
        self._lock = asyncio.Lock()

    @property
    def states(self) -> States:
        """What a checkpoint must hold so that the next step is the same."""
        stages = {str(number): state for number, state in enumerate(self._stage_states)}
        return {**stages, "strategy": self._strategy_state}

    def restore(self, states: States) -> None:
        """Take up what a checkpoint held."""
        self._strategy_state = states.get("strategy", {})
        self._stage_states = tuple(states.get(str(n), {}) for n in range(len(self._stage_states)))

    def wire(self, manifest: Manifest) -> Manifest:
        """What an update of a model with this manifest looks like."""
        return self._pipeline.wire(manifest) if self._privacy is None else wire_of(manifest)

    def open(self, manifest: Manifest) -> None:
        """Begin an attempt with an empty sum; one that was given up is forgotten."""
        self._sum = ExactSum(self.wire(manifest), capacity=self._capacity)
        self._folds = []

    def weigh(self, examples: int, *, largest: float) -> int:
        """The weight of an update that may be folded in; refuses one that the sum cannot take.

        With differential privacy each weighs the same, whatever the strategy says.
        """
        total, weight = self._exact, 1
        if self._privacy is None:
            with blamed(self._strategy):
                weight = self._strategy.weight(examples)
        total.check(weight=weight, largest=largest)
        return weight

    def take(self, summed: Summed) -> None:
        """The whole sum, as secure aggregation opened it."""
        self._sum = summed

    def fold(self, spool: Spool, *, weight: int, largest: float) -> asyncio.Task[None]:
        """Add a whole update; the spool is closed when that is done, whatever becomes of its sender."""
        task = asyncio.create_task(self._fold(self._exact, spool, weight=weight, largest=largest))
        self._folds.append(task)
        return task

    async def folded(self) -> None:
        """Everything that was handed in is in the sum."""
        await asyncio.gather(*self._folds)

    async def step(self, model: Model) -> Model:
        """The next model."""
        return await asyncio.to_thread(self._step, model)

    @property
    def _exact(self) -> ExactSum:
        if not isinstance(self._sum, ExactSum):
            raise UpdateError("no round is open that takes single updates")
        return self._sum

    async def _fold(self, total: ExactSum, spool: Spool, *, weight: int, largest: float) -> None:
        with spool:
            async with self._lock:
                await asyncio.to_thread(total.add, spool.chunks(), weight=weight, largest=largest)

    def _step(self, model: Model) -> Model:
        if self._sum is None:
            raise JobError("there is nothing to step from")
        total = self._sum if self._privacy is None else self._privacy.released(self._sum)
        with blamed(self._rule):
            mean = self._rule.combine(total)
        mean, self._stage_states = self._pipeline.on_server(mean, self._stage_states)
        with blamed(self._strategy):
            weights, self._strategy_state = self._strategy.step(model.weights, mean, self._strategy_state)
        self._sum = None
        model = Model.of(weights)
        _ = model.digest  # here and not on the event loop
        return model
