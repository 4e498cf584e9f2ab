"""What a worker counts for Prometheus: how long it trains, on how much, and what it moves."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600)


class Telemetry:
    """One worker's registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._training = Histogram(
            "fl_training_duration_seconds", "Local training.", buckets=SECONDS, registry=self.registry
        )
        self._examples = Counter(
            "fl_training_examples_total", "Examples that updates were made from.", registry=self.registry
        )
        self.bytes = Counter(
            "fl_message_bytes_total",
            "Bytes of models and updates moved.",
            ("direction", "kind"),
            registry=self.registry,
        )

    def trained(self, *, examples: float = 0, seconds: float | None = None) -> None:
        """A round's training is over; nothing is counted where nothing may be told."""
        self._examples.inc(examples)
        if seconds is not None:
            self._training.observe(seconds)
