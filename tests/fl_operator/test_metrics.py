"""The metrics have the names that dashboards and alerts ask for."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from fl_operator.metrics import JobState, JobStates, OperatorMetrics

NAMES = """
fljob_build_info fljob_reconcile_total fljob_reconcile_duration_seconds fljob_reconcile_cpu_seconds
fljob_watch_restarts_total fljob_leader
fljob_jobs fljob_longest_waiting_seconds fljob_jobs_finished_total fljob_job_ready_duration_seconds
workqueue_depth workqueue_adds_total workqueue_retries_total workqueue_queue_duration_seconds
workqueue_work_duration_seconds workqueue_unfinished_work_seconds workqueue_longest_running_processor_seconds
rest_client_requests_total rest_client_request_duration_seconds rest_client_rate_limiter_duration_seconds
rest_client_request_retries_total
"""


def test_names() -> None:
    """Every promised metric is there from the beginning, and nothing else."""
    registry = CollectorRegistry()
    OperatorMetrics(registry)
    text = generate_latest(registry).decode()
    typed = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert {name for name in typed if not name.endswith("_created")} == set(NAMES.split())


def test_no_label_is_a_jobs_name() -> None:
    """Labels are few: no job, worker or client is one."""
    registry = CollectorRegistry()
    OperatorMetrics(registry)
    labels = {label for one in registry._collector_to_names for label in getattr(one, "_labelnames", ())}
    assert labels == {
        "code",
        "method",
        "verb",
        "host",
        "name",
        "result",
        "resource",
        "reason",
        "version",
        "python_version",
    }


def test_each_state_of_each_namespace_is_counted() -> None:
    """What has gone since the last time is not counted, and leaves no line."""
    registry = CollectorRegistry()
    states = JobStates(registry)
    assert b"fljob_jobs{" not in generate_latest(registry)
    jobs = [JobState("lab", "Running", 0), JobState("lab", "Running", 0), JobState("ward", "Failed", 0)]
    states.states = lambda: jobs
    page = generate_latest(registry).decode()
    assert 'fljob_jobs{namespace="lab",state="Running"} 2.0' in page
    assert 'fljob_jobs{namespace="ward",state="Failed"} 1.0' in page
    jobs.pop()
    assert "ward" not in generate_latest(registry).decode()


def test_who_waits_for_longest() -> None:
    """Of each namespace's jobs that wait the one is told that has done so for longest, and nothing of the others."""
    registry = CollectorRegistry()
    states = JobStates(registry, clock=lambda: 1000.0)
    waiting = [JobState("lab", "Starting", 400.0), JobState("lab", "Starting", 990.0)]
    states.states = lambda: [*waiting, JobState("lab", "Running", 1.0)]
    page = generate_latest(registry).decode()
    told = [line for line in page.splitlines() if line.startswith("fljob_longest_waiting_seconds{")]
    assert told == ['fljob_longest_waiting_seconds{namespace="lab",state="Starting"} 600.0']
