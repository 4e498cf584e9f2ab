"""Which model is the best so far, and whether the target is reached."""

from __future__ import annotations

from collections.abc import Mapping

from fl_core.plan import Target

Values = Mapping[str, float]
"""An evaluation's metrics by name; empty where nothing was measured."""


class Best:
    """The best evaluation so far, by the target's metric, or by the loss where the job has no target."""

    def __init__(self, target: Target | None) -> None:
        self._target = target
        self._score: float | None = None

    def improved(self, values: Values) -> bool:
        """Whether these are better than all before; if so they are what comes next is compared with."""
        score = self._of(values)
        if score is None or (self._score is not None and score <= self._score):
            return False
        self._score = score
        return True

    def reached(self, values: Values) -> bool:
        """Whether these reach the target; raises SpecError where the program does not measure its metric."""
        if self._target is None or not values:
            return False
        self._target.check(values.keys())
        return self._target.reached(values[self._target.metric])

    def _of(self, values: Values) -> float | None:
        """The higher the better."""
        target = self._target
        name = target.metric if target else "loss"
        if name not in values:
            return None
        return values[name] if target is not None and target.at_least is not None else -values[name]
