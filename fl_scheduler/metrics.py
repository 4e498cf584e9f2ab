"""What the scheduler counts for Prometheus; no label names a job or a worker."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class Metrics:
    """One scheduler's registry; `policy` is the job's selection policy."""

    def __init__(self, policy: str) -> None:
        self.registry = CollectorRegistry()
        self._policy = policy
        self.live = Gauge("fl_workers_live", "Workers whose lease holds.", registry=self.registry)
        self._chosen = Counter(
            "fl_selection_total",
            "Workers that a round could ask: those it chose, and those it passed over.",
            ("policy", "reason"),
            registry=self.registry,
        )
        self.refused = Counter(
            "fl_enrolments_refused_total", "Workers that do not fit the job.", registry=self.registry
        )

    def selected(self, *, chosen: int, live: int) -> None:
        """A round has its cohort."""
        self._chosen.labels(self._policy, "chosen").inc(chosen)
        self._chosen.labels(self._policy, "passed_over").inc(max(live - chosen, 0))
