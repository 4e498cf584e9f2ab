"""What the server writes down about a round while it is open, and the line that remains of it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog

from fl_core import images
from fl_core.metrics import Measurements, total
from fl_core.shortfall import GONE, LEFT
from fl_server.checkpoints import legible
from fl_server.measurements import agreeing

log = structlog.get_logger()

NOT_FINITE = "notFinite"
"""Of the metrics that were measured those whose values are no finite numbers, in a round's line."""


class Ledger:
    """The open round's facts; `row` is its line in metrics.jsonl; `up` and `down` are bytes moved."""

    def __init__(self) -> None:
        self.row: dict[str, Any] = {}
        self.reporters: tuple[str, ...] = ()
        self._lap = 0.0
        self._examples: dict[str, int] = {}
        self._training: dict[str, Measurements] = {}
        self._together: tuple[int, Measurements] | None = None
        self._evaluation: dict[str, Measurements] = {}
        self._images: dict[str, str] = {}
        self.up = self.down = 0

    def open(
        self,
        number: int,
        attempt: int,
        *,
        earlier: Sequence[Mapping[str, Any]] = (),
        **facts: float | str,
    ) -> None:
        """A new attempt, of which these facts are known, after `earlier` ones of the round that were given up."""
        row: dict[str, Any] = {
            "round": number,
            "attempt": attempt,
            "cohort": [],
            "dropouts": {},
            "seconds": {},
            **facts,
        }
        self._begin(row | ({"earlier": list(earlier)} if earlier else {}))

    @property
    def lost(self) -> Mapping[str, str]:
        """Who was lost in the open attempt, and why."""
        lost: dict[str, str] = self.row.get("dropouts", {})
        return lost

    def resume(self, row: dict[str, Any]) -> None:
        """Go on after the commit of a round that another process opened."""
        with legible("the checkpoint's line of its round"):
            self._begin({**row, "dropouts": dict(row["dropouts"]), "seconds": dict(row["seconds"])})
            self.reporters = tuple(row["reporters"])
            self.up, self.down = row["bytes"]["up"], row["bytes"]["down"]

    @property
    def counts(self) -> dict[str, int]:
        """How many were asked, are in the model and were lost in the round, if it is closed."""
        if "result" not in self.row:
            return {}
        told = {"selected": "cohort", "reported": "reporters", "dropped": "dropouts"}
        return {name: len(self.row[listed]) for name, listed in told.items()}

    def lap(self, stage: str) -> None:
        """A stretch of a stage of the round is over: note its seconds."""
        now, seconds = time.monotonic(), self.row["seconds"]
        seconds[stage] = round(seconds.get(stage, 0) + now - self._lap, 6)
        self._lap = now

    def convened(self, cohort: Iterable[str], **others: Any) -> None:  # noqa: ANN401 - any JSON value
        """Who was asked, and what is known of the others; a line does not grow with how many there are."""
        self.row["cohort"] = sorted(cohort)
        self.row["selection"] = {name: fact for name, fact in others.items() if fact}

    def dropped(self, worker: str, reason: str) -> bool:
        """Who was lost, and why; True when it is news. That it is gone may be heard before that it was told to end."""
        if not self.row:
            return False
        known = self.row["dropouts"].get(worker)
        if known is None or (known == GONE and reason == LEFT):
            self.row["dropouts"][worker] = reason
        return known is None

    def trained(self, worker: str, *, examples: int, metrics: Measurements, nbytes: int) -> None:
        """Who handed in an update."""
        self._examples[worker] = examples
        self._training[worker] = metrics
        self.up += nbytes

    def runs_in(self, worker: str, image: str) -> None:
        """The image that a worker says it runs in, if any; UpdateError for what can name none."""
        self._images[worker] = images.check(image, whose=worker)

    def summed(
        self,
        *,
        examples: int,
        metrics: Measurements,
        clipped: int,
        left_out: Mapping[int, str],
        ranges: Mapping[int, Sequence[int]],
    ) -> None:
        """What all workers of secure sums say together; `clipped` elements of their updates were out of range.

        Buckets that had no sum are `left_out`, for the reasons given. Where workers have voted on the `ranges` of the
        arrays, those are part of what the model follows from.
        """
        self._together = examples, metrics
        self.row["clipped"] = clipped
        if ranges:
            self.row["ranges"] = {str(bucket): list(one) for bucket, one in ranges.items()}
        if left_out:
            self.row["leftOut"] = {str(bucket): why for bucket, why in left_out.items()}

    def evaluated(self, worker: str, metrics: Measurements) -> None:
        """Who measured the new model."""
        self._evaluation[worker] = metrics

    def committed(self, reporters: tuple[str, ...], *, model: str) -> None:
        """Whose updates are in the new model."""
        self.reporters = reporters
        examples, metrics = self._together or self._of(reporters)
        told = images.tally(self._images.get(worker, "") for worker in reporters)
        self.row |= {
            "model": model,
            "reporters": list(reporters),
            **({"images": told} if told else {}),
            **({"examples": examples} if examples else {}),  # with differential privacy nobody says how many
            "train": _values(metrics),
            "bytes": {"up": self.up, "down": self.down},
        }

    def _of(self, reporters: tuple[str, ...]) -> tuple[int, Measurements]:
        parts = {worker: self._training[worker] for worker in reporters}
        return sum(self._examples[worker] for worker in reporters), total(agreeing(parts))

    def concluded(self, *, skipped: str) -> dict[str, float]:
        """Close the line; returns the evaluation's values, without those that are no finite numbers."""
        self.lap("evaluate")
        measured = total(agreeing(self._evaluation))
        values = _values(measured)
        nothing = {"reporters": [], "examples": 0, "train": {}}
        known = {**nothing, "result": "Skipped", "reason": skipped} if skipped else {"result": "Committed"}
        self.row = {**self.row, **known, "metrics": values}
        if lacking := sorted(measured.keys() - values.keys()):
            log.warning(
                "metrics without a finite value, which are no progress and no target", metrics=lacking
            )
            self.row[NOT_FINITE] = lacking
        self.row["bytes"] = {"up": self.up, "down": self.down}
        seconds = self.row["seconds"]
        seconds["total"] = round(sum(seconds.values()), 6)
        return values

    def _begin(self, row: dict[str, Any]) -> None:
        self._lap = time.monotonic()
        self._examples, self._training, self._evaluation = {}, {}, {}
        self._together = None
        self._images = {}
        self.up = self.down = 0
        self.reporters = ()
        self.row = row


def measured_in(row: Mapping[str, Any]) -> dict[str, float]:
    """What a round's line says was measured, NaN for what was no finite number; empty where nothing was."""
    return {**row.get("metrics", {}), **dict.fromkeys(row.get(NOT_FINITE, ()), math.nan)}


def _values(measured: Measurements) -> dict[str, float]:
    values = {name: measurement.value for name, measurement in measured.items()}
    return {name: value for name, value in values.items() if math.isfinite(value)}
