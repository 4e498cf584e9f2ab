"""One worker's side of a round: train or measure, check the result, and let the stages run on it.

State goes in and comes out: what the stages remember belongs to whoever calls, who keeps it by round, so that a round
that is made again begins with the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import structlog

from fl_core.errors import OrderError, UpdateError
from fl_core.extensions import build
from fl_core.metrics import Measurements, check_measured, summable
from fl_core.plan import Plan
from fl_core.privacy.job import wire_of
from fl_core.secagg.job import most_measured
from fl_core.stages import Pipeline, State
from fl_core.strategies import Strategy
from fl_core.weights import Array, Manifest, Weights, check_finite
from fl_worker.backends import Backend, Evaluated, Trained
from fl_worker.border import user_code
from fl_worker.privacy import Privacy
from fl_worker.program import load
from fl_worker.spoiling import mislabelled, spoilt
from fl_worker.task import Site

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Finished:
    """What a worker hands in, and what its stages remember after it.

    With differential privacy that is the update alone: numbers of its training would be a release without noise.
    """

    update: Weights
    examples: int
    metrics: Measurements
    states: tuple[State, ...]
    vote: int = 0


@dataclass(frozen=True, slots=True)
class Learner:
    """A loaded program with the plan's strategy and stages around it; measurements are summed `below` a magnitude."""

    backend: Backend
    strategy: Strategy
    pipeline: Pipeline
    site: Site
    folder: Path
    privacy: Privacy | None = None
    below: float = math.inf

    @classmethod
    def load(cls, plan: Plan, *, folder: Path, site: Site) -> Learner:
        """Load the plan's program from `folder` for this site."""
        return cls(
            backend=load(plan, folder=folder, site=site),
            strategy=build(plan.strategy, within="fl_core.strategies", protocol=Strategy),
            pipeline=Pipeline.of(plan.compression),
            site=site,
            folder=folder,
            privacy=Privacy.of(plan),
            below=most_measured(plan),
        )

    def wire(self, manifest: Manifest) -> Manifest:
        """What an update of a model with this manifest looks like when it is handed in, in the clear."""
        return self.pipeline.wire(manifest) if self.privacy is None else wire_of(manifest)

    def weight(self, examples: int) -> int:
        """How much an update counts: as the strategy says, or the same for all where that would tell of a worker."""
        return 1 if self.privacy is not None else self.strategy.weight(examples)

    def initial(self) -> dict[str, Array]:
        """Copy the weights that the job's seed gives."""
        return self.backend.weights()

    def train(
        self,
        weights: Weights,
        *,
        round: int,
        states: Sequence[State],
        moved: Callable[[], None],
        clip: float = 0.0,
        spoil: str = "",
    ) -> Finished:
        """Train one round from these weights, with which this clip norm came; `moved` is called at any progress."""
        doing = f"it trained in round {round}"
        with user_code(doing, self.folder), mislabelled(self.backend, spoil):
            trained = spoilt(self.backend.train(weights, round=round, moved=moved), spoil)
        trained = self._sound(trained)
        update, after = self.pipeline.on_worker(trained.update, states)
        if self.privacy is not None:
            vote = self.privacy.vote(update, clip=clip)
            return Finished(self.privacy.concealed(update, clip=clip), 0, {}, after, vote)
        return Finished(update, trained.examples, trained.metrics, after)

    def _sound(self, trained: Trained) -> Trained:
        """Refuse what cannot be handed in; with differential privacy it is zeros, as of a worker that is not there.

        To refuse it would be a release without noise: whoever chose the model could ask the data what they like.
        """
        try:
            self._check_counts(trained)
            made = f", which {trained.source} made" if trained.source else ""
            check_finite(trained.update, whose=f"{self.site.name}'s update{made}")
            if self.privacy is None:
                check_measured(trained.metrics, whose=self.site.name)
        except UpdateError as error:
            if self.privacy is None:
                raise
            log.warning("its update counts as zeros", reason=str(error))
            return replace(
                trained, update={name: np.zeros_like(array) for name, array in trained.update.items()}
            )
        return trained

    def _check_counts(self, trained: Trained) -> None:
        """Refuse a number of examples that nobody trained on."""
        if trained.examples < 0:
            raise UpdateError(
                f"{self.site.name} trained on {trained.examples} examples, says {trained.source or 'its program'}; "
                "give a whole number from 1"
            )
        if trained.examples < 1:
            raise UpdateError(f"{self.site.name} trained on no example; give it data, or leave it out")

    def evaluate(self, weights: Weights, *, moved: Callable[[], None]) -> Evaluated:
        """Measure these weights on the worker's own test data; refuses where the job releases no measurement.

        What cannot be summed, as of a model that has diverged, counts as if there were no test data for it: a refusal
        would tell others of this worker's data, and the round's line names what nobody has a value of.
        """
        if self.privacy is not None and not self.privacy.measured:
            raise OrderError(f"{self.site.name} measures nothing: spec.privacy.metrics is Suppressed")
        with user_code("it was evaluated", self.folder):
            measured = self.backend.evaluate(weights, moved=moved)
            metrics = summable(measured.metrics, below=self.below)
        if lacking := [name for name, one in measured.metrics.items() if metrics[name] is not one]:
            log.warning("measured without a finite value, which counts as if of no example", metrics=lacking)
        return replace(measured, metrics=metrics)
