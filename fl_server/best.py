"""Which model is the best so far, whether the target is reached, and whether there is still progress."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fl_core.errors import SpecError
from fl_core.plan import EarlyStopping, Target
from fl_server.ledger import measured_in

Values = Mapping[str, float]
"""An evaluation's metrics by name, NaN for one that has no value; empty where nothing was measured."""

REACHED = "TargetReached"
NO_PROGRESS = "NoProgress"


class Best:
    """The best evaluation so far, by the target's metric, or by the loss where the job has no target.

    With `stopping` it also counts the evaluations since there was progress, as early stopping is defined in Keras
    and in Lightning: what counts is a value that is better by more than `min_delta` than the last one that counted,
    so that many small steps are progress, too.
    """

    def __init__(self, target: Target | None, stopping: EarlyStopping | None = None) -> None:
        self._target = target
        self._stopping = stopping
        self._score: float | None = None
        self._reference: float | None = None
        self._since = 0
        self._known = False
        """Whether the metric was ever measured."""

    def restore(self, rows: Mapping[int, Mapping[str, Any]], best: Values) -> None:
        """Take up the best model's values, and count anew what an earlier process recorded by rounds."""
        self.improved(best)
        for number in sorted(rows):
            self._count(measured_in(rows[number]))

    def improved(self, values: Values) -> bool:
        """Whether these are better than all before; if so they are what comes next is compared with."""
        score = self._of(values)
        if score is None or (self._score is not None and score <= self._score):
            return False
        self._score = score
        return True

    def ending(self, values: Values) -> str:
        """Why these end the job, if they do; to be asked once for each round.

        Raises SpecError where the program does not measure what the end depends on. What it measures and has no finite
        value, or none for once, as one worker or a lack of test data can bring about, is no progress and no target.
        """
        if not self._known:
            self._check(values)
        self._count(values)
        return self.over(values)

    def _check(self, values: Values) -> None:
        if self._target is not None:
            self._target.check(values.keys())
        if self._stopping is not None and values and self._name not in values:
            raise SpecError(
                f"spec.earlyStopping: {self._name!r} is not among the program's metrics, "
                f"{', '.join(sorted(values))}; let the program measure it, or name another in spec.target"
            )

    def over(self, values: Values) -> str:
        """Why the job is over with these, the last that were counted; empty where it is not."""
        if self.reached(values):
            return REACHED
        return NO_PROGRESS if self._stopping and self._since >= self._stopping.patience else ""

    def reached(self, values: Values) -> bool:
        """Whether these reach the target, which takes a finite number."""
        if self._target is None:
            return False
        value = values.get(self._target.metric, math.nan)
        return math.isfinite(value) and self._target.reached(value)

    def farewell(self, reason: str) -> str:
        """What is to be said when a job ends for this reason."""
        if reason != NO_PROGRESS or self._stopping is None or self._reference is None:
            return ""
        best = self._reference if self._higher else -self._reference
        by = f" by more than {self._stopping.min_delta:g}" if self._stopping.min_delta else ""
        return f"{self._name} was not better than {best:.4g}{by} in {self._since} measured rounds"

    def _count(self, values: Values) -> None:
        """An evaluation in which the metric is not a finite number is one without progress."""
        score = self._of(values)
        self._known = self._known or self._name in values
        if self._stopping is None or not values:
            return
        if score is not None and (
            self._reference is None or score > self._reference + self._stopping.min_delta
        ):
            self._reference, self._since = score, 0
        else:
            self._since += 1

    @property
    def _name(self) -> str:
        return self._target.metric if self._target else "loss"

    @property
    def _higher(self) -> bool:
        return self._target is not None and self._target.at_least is not None

    def _of(self, values: Values) -> float | None:
        """The higher the better; None where the metric has no finite value."""
        value = values.get(self._name)
        if value is None or not math.isfinite(value):
            return None
        return value if self._higher else -value
