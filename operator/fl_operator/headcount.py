"""How many workers a job has, and how many of them are lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fl_operator.actions import Seen
from fl_operator.cluster.resources import Object
from fl_operator.findings import is_given_up, is_ready, lost_workers, pods_of
from job_generator import names
from job_generator.spec import Workers


def restarts_of(spec: Mapping[str, Any]) -> int:
    """How often a worker that died is started again."""
    default = Workers.model_fields["restarts_per_worker"].default
    return int(spec["workers"].get("restartsPerWorker", default))


def workers_of(seen: Seen, spec: Mapping[str, Any], *, restarts: int) -> Object:
    """The workers in the status: lost are the indexes that failed, and who died after more than `restarts` starts."""
    pods = pods_of(seen.pods, "worker")
    given_up = {pod["metadata"]["name"] for pod in pods if is_given_up(pod, restarts)}
    return {
        "replicas": spec["workers"]["replicas"],
        "ready": sum(is_ready(pod) for pod in pods if pod["metadata"]["name"] not in given_up),
        "lost": lost_workers(seen.children.values()) + len(given_up),
        "selector": f"{names.JOB}={seen.job['metadata']['name']},{names.ROLE}=worker",
    }
