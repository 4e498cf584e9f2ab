"""What the objects of a job are called on a cluster, how they are labelled, and where its processes are dialled.

Names follow from the job alone, so that creating an object twice is creating it once.
"""

from __future__ import annotations

import hashlib
from typing import Final

from fl_core.plan import Job
from job_generator.processes import Role

LONGEST = 51
"""Of 63 characters: a Job adds an index of up to five digits and five random letters to the names of its pods."""
PORT: Final = 7443
"""Where server and scheduler listen."""
RELAY_PORT: Final = 7444
"""Where the server of a job with external sites listens for them."""
METRICS_PORT: Final = 9090
"""Where every process serves /metrics, /healthz and /readyz."""

JOB: Final = "fljob.dev/job"
ROLE: Final = "fljob.dev/role"
ATTEMPT: Final = "fljob.dev/attempt"
SITE: Final = "fljob.dev/site"
PLAN_DIGEST: Final = "fljob.dev/plan-digest"
CHILDREN: Final = "children.json"
"""The key under which an attempt's ConfigMap keeps the children, as they were rendered."""


def child(job: Job, *words: str) -> str:
    """The name of a child: the job's and its own; what would be too long is cut, and a digest makes it unique."""
    name = "-".join((job.name, *words))
    if len(name) <= LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: LONGEST - 9].rstrip('-')}-{digest}"


def configuration(job: Job, plan: str) -> str:
    """The ConfigMap of the Plan of this digest."""
    return child(job, "plan", plan[:10])


def attempt(job: Job, number: int) -> str:
    """The ConfigMap that keeps the attempt of this number."""
    return child(job, "attempt", str(number))


def authority(job: Job) -> str:
    """The ConfigMap that says whom the job's processes trust, and where they enrol."""
    return child(job, "authority")


def used_token(job: Job, token: str) -> str:
    """The ConfigMap that says that a token was used; no pod is called after it, so it may be long."""
    return f"{job.name}-token-{hashlib.sha256(token.encode()).hexdigest()[:32]}"


def claim(job: Job) -> str:
    """The claim of the server's storage; the uid keeps it apart from that of an earlier job of this name."""
    return f"{job.name}-storage-{job.uid}"


def address(job: Job, role: Role) -> str:
    """Where the one pod of this role is dialled: the DNS name of an Indexed Job's pod, and its port."""
    name = child(job, role)
    return f"{name}-0.{name}.{job.namespace}.svc:{PORT}"


def labels(job: Job, role: Role, *, attempt: int) -> dict[str, str]:
    """The labels of a role's objects and pods."""
    return {**of_job(job), "app.kubernetes.io/component": role, ROLE: role, ATTEMPT: str(attempt)}


def of_job(job: Job) -> dict[str, str]:
    """The labels of everything that belongs to a job."""
    return {
        "app.kubernetes.io/name": "fljob",
        "app.kubernetes.io/instance": job.name,
        "app.kubernetes.io/managed-by": "fljob-operator",
        JOB: job.name,
    }


def selector(job: Job, *roles: Role) -> dict[str, object]:
    """A label selector for the pods of these roles, or of all."""
    chosen: dict[str, object] = {"matchLabels": {JOB: job.name}}
    if roles:
        chosen["matchExpressions"] = [{"key": ROLE, "operator": "In", "values": list(roles)}]
    return chosen
