"""What the server counts for Prometheus; no label names a job, a worker or a client."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from fl_core.errors import RoundError, UnmaskError
from fl_core.plan import Selection
from fl_core.shortfall import kind_of

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
"""Bounds of the histograms: from a tiny model on loopback to an hour of training."""


UNSUMMED = ("members", "masks")
"""Why secure sums do not open: too few members are left, or shares and masks do not fit."""

MEANING = ("unit", "neighbours", "adversary")
"""What stands beside every epsilon."""


class Metrics:
    """One server's registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.round = self._gauge("fl_round_current", "The round that is open, or the last one.")
        self._rounds = self._counter("fl_rounds_total", "Rounds closed, and attempts abandoned.", "result")
        self._rounds.labels("abandoned")  # 0 from the start, so that the first one is an increase
        self._seconds = self._histogram("fl_round_duration_seconds", "How long rounds take.", "stage")
        self._workers = self._gauge("fl_round_workers", "The last closed round's workers.", "state")
        self._minimum = self._gauge("fl_round_minimum", "Reporters without whom a round is given up.")
        self._target = self._gauge("fl_round_target", "Reporters with whom a round closes.")
        self._dropouts = self._counter("fl_worker_dropouts_total", "Workers lost during a round.", "reason")
        self.bytes = self._counter(
            "fl_message_bytes_total", "Bytes of models and updates moved.", "direction", "kind"
        )
        self.aggregation = self._histogram(
            "fl_aggregation_duration_seconds", "From the last update to the next model.", "mode"
        )
        self._unsummed = self._counter(
            "fl_secagg_unmask_failures_total", "Secure sums that did not open.", "reason"
        )
        self._clipped = self._counter(
            "fl_secagg_clipped_values_total", "Elements of updates that lay beyond the round's range."
        )
        for reason in UNSUMMED:
            self._unsummed.labels(reason)
        self._metric = self._gauge("fl_model_metric", "The last evaluation's global values.", "name")
        self._age = self._gauge("fl_checkpoint_age_seconds", "Seconds since the last checkpoint.")
        self._age.set(float("nan"))
        self.epsilon = self._gauge(
            "fl_privacy_epsilon", "The epsilon that was spent by now; fl_privacy_info says what it means."
        )
        self._private = self._gauge("fl_privacy_info", "What fl_privacy_epsilon means; always 1.", *MEANING)
        self.budget = self._gauge("fl_privacy_epsilon_budget", "The epsilon that may be spent in all.")
        self.clip = self._gauge("fl_privacy_clip_norm", "The clip norm of the open round, or the last one.")
        for privacy in (self.epsilon, self.budget, self.clip):
            privacy.set(float("nan"))
        self.external = self._gauge("fl_external_connections", "Connections of external sites that are open.")
        self.turned_away = self._counter(
            "fl_external_refused_total", "Connections from outside the cluster that led nowhere.", "reason"
        )

    def expects(self, selection: Selection) -> None:
        """How many updates a round needs, and how many it waits for."""
        self._minimum.set(selection.minimum)
        self._target.set(selection.per_round)

    def private(self, facts: Mapping[str, Any]) -> None:
        """What the epsilon is about."""
        self._private.labels(*(facts[name] for name in MEANING)).set(1)

    def saved(self) -> None:
        """A checkpoint has been written."""
        written = time.monotonic()
        self._age.set_function(lambda: time.monotonic() - written)

    def dropped(self, reason: str) -> None:
        """A worker of the cohort is lost."""
        self._dropouts.labels(kind_of(reason)).inc()

    def abandoned(self) -> None:
        """An attempt has failed."""
        self._rounds.labels("abandoned").inc()

    def unsummed(self, error: RoundError) -> None:
        """A secure sum did not open."""
        self._unsummed.labels(UNSUMMED[isinstance(error, UnmaskError)]).inc()

    def closed(self, row: Mapping[str, Any]) -> None:
        """A round is over; `row` is its line in metrics.jsonl."""
        self._rounds.labels(row["result"].lower()).inc()
        self._clipped.inc(row.get("clipped", 0))
        for stage, seconds in row["seconds"].items():
            self._seconds.labels(stage).observe(seconds)
        for state, workers in (("selected", "cohort"), ("reported", "reporters"), ("dropped", "dropouts")):
            self._workers.labels(state).set(len(row[workers]))
        if row["metrics"]:
            self._metric.clear()
        for name, value in row["metrics"].items():
            self._metric.labels(name).set(value)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=SECONDS, registry=self.registry)
