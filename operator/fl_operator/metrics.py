"""The operator's metrics: client-go's names where it has them, else `fljob_*`; no label is a job's name."""

from __future__ import annotations

import platform
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_QUEUE_SECONDS = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
_READY_SECONDS = (1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1800.0)

WAITING: Final = frozenset({"Pending", "Starting"})
"""States of a job whose pods are not there yet, or too few of them."""


class ClientMetrics:
    """What is asked of the API server (names of client-go's `rest_client_*`)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "rest_client_requests_total",
            "Requests to the API server, by status code (or <error>), method and host.",
            ("code", "method", "host"),
            registry=registry,
        )
        self.duration = Histogram(
            "rest_client_request_duration_seconds",
            "Seconds until the API server had answered, by method and host; without watches.",
            ("verb", "host"),
            buckets=_SECONDS,
            registry=registry,
        )
        self.throttled = Histogram(
            "rest_client_rate_limiter_duration_seconds",
            "Seconds that requests waited for our own limits, of rate and of number, by method and host.",
            ("verb", "host"),
            buckets=_SECONDS,
            registry=registry,
        )
        self.retries = Counter(
            "rest_client_request_retries_total",
            "Requests that were sent again because the API server asked for it, by code, method and host.",
            ("code", "verb", "host"),
            registry=registry,
        )


class QueueMetrics:
    """A work queue (names of client-go's `workqueue_*`)."""

    def __init__(self, registry: CollectorRegistry, *, name: str) -> None:
        def counter(metric: str, text: str) -> Counter:
            return Counter(f"workqueue_{metric}", text, ("name",), registry=registry).labels(name)

        def histogram(metric: str, text: str) -> Histogram:
            made = Histogram(
                f"workqueue_{metric}", text, ("name",), buckets=_QUEUE_SECONDS, registry=registry
            )
            return made.labels(name)

        def gauge(metric: str, text: str) -> Gauge:
            return Gauge(f"workqueue_{metric}", text, ("name",), registry=registry).labels(name)

        self.adds = counter("adds_total", "Keys that were added.")
        self.retries = counter("retries_total", "Keys that were added again after a failure.")
        self.depth = gauge("depth", "Keys that wait for a worker now.")
        self.waited = histogram("queue_duration_seconds", "Seconds that keys waited for a worker.")
        self.worked = histogram("work_duration_seconds", "Seconds that workers spent on keys.")
        self._unfinished = gauge(
            "unfinished_work_seconds", "Seconds that work in progress has taken so far, added up."
        )
        self._longest = gauge(
            "longest_running_processor_seconds", "Seconds that the longest work in progress has taken so far."
        )

    def watch(self, running: Callable[[], list[float]]) -> None:
        """Ask for the seconds that each work in progress has taken, whenever metrics are read."""
        self._unfinished.set_function(lambda: sum(running()))
        self._longest.set_function(lambda: max(running(), default=0.0))


class JobState(NamedTuple):
    """What the metrics tell of one FLJob."""

    namespace: str
    state: str
    waiting_since: float
    """A Unix time, which says something while the job waits."""


class JobStates(Collector):
    """How many FLJobs there are in each state, and for how long they wait, counted whenever metrics are read.

    Nothing is left of one that goes.
    """

    def __init__(self, registry: CollectorRegistry, *, clock: Callable[[], float] = time.time) -> None:
        self.states: Callable[[], Iterable[JobState]] = tuple
        self._clock = clock
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Count."""
        jobs = list(self.states())
        number = Tally((one.namespace, one.state) for one in jobs)
        yield _by_state("fljob_jobs", "FLJobs, by namespace and state.", number)
        now, longest = self._clock(), dict[tuple[str, str], float]()
        for namespace, state, since in jobs:
            if state in WAITING:
                longest[namespace, state] = max(longest.get((namespace, state), 0.0), now - since)
        text = "Seconds that the FLJob has waited that has waited for longest, by namespace and state."
        yield _by_state("fljob_longest_waiting_seconds", text, longest)


def _by_state(name: str, text: str, values: Mapping[tuple[str, str], float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=("namespace", "state"))
    for labels, value in sorted(values.items()):
        family.add_metric(labels, value)
    return family


class OperatorMetrics:
    """What the operator does, and what it is."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.client = ClientMetrics(registry)
        self.queue = QueueMetrics(registry, name="fljob")
        self.reconciles = Counter(
            "fljob_reconcile_total",
            "Reconciles, by result: success, requeue, conflict, wait or error.",
            ("result",),
            registry=registry,
        )
        self.duration = Histogram(
            "fljob_reconcile_duration_seconds",
            "Seconds of a reconcile, its waits for the API server included.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.cpu = Histogram(
            "fljob_reconcile_cpu_seconds",
            "Processor seconds of a reconcile itself, without its waits.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.watch_restarts = Counter(
            "fljob_watch_restarts_total",
            "Watches that broke and were begun again, by resource and reason.",
            ("resource", "reason"),
            registry=registry,
        )
        self.leader = Gauge("fljob_leader", "1 while this replica holds the Lease.", registry=registry)
        self.jobs = JobStates(registry)
        self.finished = Counter(
            "fljob_jobs_finished_total",
            "FLJobs that ended, by result and reason.",
            ("result", "reason"),
            registry=registry,
        )
        self.ready = Histogram(
            "fljob_job_ready_duration_seconds",
            "Seconds from an FLJob's creation until its quorum was ready.",
            buckets=_READY_SECONDS,
            registry=registry,
        )
        self.build = Gauge("fljob_build_info", "1.", ("version", "python_version"), registry=registry)
        self.build.labels(version("fljob"), platform.python_version()).set(1)
