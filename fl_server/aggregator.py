"""From one model to the next: updates are folded into one exact sum as they come, then the strategy steps.

A rule that compares parts gets them as they are: the sums of buckets, or, in the clear, each worker's update.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fl_core.aggregation import Robust, Rule, misfit, rule_of
from fl_core.errors import JobError, SpecError, UpdateError
from fl_core.extensions import blamed, build
from fl_core.plan import Plan
from fl_core.privacy.job import wire_of
from fl_core.secagg.summands import Summed
from fl_core.stages import Pipeline, State
from fl_core.states import States
from fl_core.strategies import Strategy
from fl_core.updates import ExactSum
from fl_core.weights import Manifest, Weights
from fl_server.model import Model
from fl_server.privacy import Privacy, Spent
from fl_server.spool import Spool

EVERYBODY = ""
"""Whose sum it is where all updates go into one."""


class Aggregator:
    """The open attempt's sums, and what strategy and stages remember from round to round."""

    def __init__(self, plan: Plan, privacy: Privacy | None = None) -> None:
        self._privacy = privacy
        self._strategy = build(plan.strategy, within="fl_core.strategies", protocol=Strategy)
        self._rule = rule_of(plan.aggregation)
        if wrong := _misfit(plan, self._rule):
            raise SpecError(f"spec.aggregation: {wrong}")
        self._pipeline = Pipeline.of(plan.compression)
        self._capacity = plan.selection.asked
        self._strategy_state: State = {}
        self._stage_states = self._pipeline.fresh()
        self._manifest: Manifest | None = None
        self._sums: dict[str, ExactSum] = {}
        self._given: Sequence[Summed] = ()
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
        """Begin an attempt with nothing in it; one that was given up is forgotten."""
        self._manifest, self._sums, self._given = self.wire(manifest), {}, ()
        self._folds = []

    def weigh(self, worker: str, examples: int, *, largest: float) -> int:
        """The weight of an update that may be folded in; refuses one that its sum cannot take.

        With differential privacy each weighs the same, whatever the strategy says.
        """
        total, weight = self._sum_of(worker), 1
        if self._privacy is None:
            with blamed(self._strategy):
                weight = self._strategy.weight(examples)
        total.check(weight=weight, largest=largest)
        return weight

    def take(self, parts: Sequence[Summed]) -> None:
        """The sums of all buckets, as secure aggregation opened them."""
        self._given = parts

    def fold(self, worker: str, spool: Spool, *, weight: int, largest: float) -> asyncio.Task[None]:
        """Add a whole update; the spool is closed when that is done, whatever becomes of its sender."""
        task = asyncio.create_task(self._fold(self._sum_of(worker), spool, weight=weight, largest=largest))
        self._folds.append(task)
        return task

    async def folded(self) -> None:
        """Everything that was handed in is in the sum."""
        await asyncio.gather(*self._folds)

    async def step(self, model: Model) -> Model:
        """The next model."""
        return await asyncio.to_thread(self._step, model)

    def _sum_of(self, worker: str) -> ExactSum:
        """The sum that this worker's update goes into: everybody's, or one of its own for a rule that compares."""
        if self._manifest is None:
            raise UpdateError("no round is open that takes single updates")
        whose = worker if isinstance(self._rule, Robust) else EVERYBODY
        if whose not in self._sums:
            self._sums[whose] = ExactSum(self._manifest, capacity=self._capacity)
        return self._sums[whose]

    async def _fold(self, total: ExactSum, spool: Spool, *, weight: int, largest: float) -> None:
        with spool:
            async with self._lock:
                await asyncio.to_thread(total.add, spool.chunks(), weight=weight, largest=largest)

    def _step(self, model: Model) -> Model:
        released = self._privacy.released(self._parts[0], clip=model.clip) if self._privacy else None
        mean, self._stage_states = self._pipeline.on_server(self._combined(released), self._stage_states)
        with blamed(self._strategy):
            weights, self._strategy_state = self._strategy.step(model.weights, mean, self._strategy_state)
        exponents = self._given[0].exponents if len(self._given) == 1 else ()
        self._manifest, self._sums, self._given = None, {}, ()
        model = Model.of(weights, clip=released.clip if released else 0.0, exponents=exponents)
        _ = model.digest  # here and not on the event loop
        return model

    @property
    def _single(self) -> list[ExactSum]:
        """The sums of updates that came one by one, in the order of their workers' names."""
        return [total for _, total in sorted(self._sums.items()) if total.count]

    @property
    def _parts(self) -> Sequence[ExactSum | Summed]:
        """The attempt's sums: that of all, those of the buckets, or one of each update."""
        parts: Sequence[ExactSum | Summed] = self._given or self._single
        if not parts:
            raise JobError("there is nothing to step from")
        return parts

    def _combined(self, released: Spent | None) -> Weights:
        """One update that stands for all of the attempt."""
        with blamed(self._rule):
            if isinstance(self._rule, Robust):
                return self._rule.reduce([part.mean() for part in self._parts])
            return self._rule.combine(released or self._parts[0])


def _misfit(plan: Plan, rule: Rule | Robust) -> str | None:
    """What is wrong with the job's rule; the compiler says it of the rules that it knows, sooner."""
    secure = plan.secure_aggregation
    return misfit(
        rule,
        name=plan.aggregation.name,
        cohort=plan.selection.minimum,
        buckets=secure.buckets if secure else None,
        private=plan.privacy is not None,
    )
