"""What a worker counts for Prometheus: how long it trains, on how much, and what it moves."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600)


class Telemetry:
    """One worker's registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.training = Histogram(
            "fl_training_duration_seconds", "Local training.", buckets=SECONDS, registry=self.registry
        )
        self.examples = Counter(
            "fl_training_examples_total", "Examples that updates were made from.", registry=self.registry
        )
        self.bytes = Counter(
            "fl_message_bytes_total",
            "Bytes of models and updates moved.",
            ("direction", "kind"),
            registry=self.registry,
        )
