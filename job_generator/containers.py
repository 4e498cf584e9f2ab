"""How a process runs in its container: command line, environment, probes, resources, and how it is started again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fl_core.environment import POD
from fl_core.errors import PERMANENT_EXIT_CODES
from fl_core.plan import Plan
from job_generator import names
from job_generator.forecast import Model, footprint
from job_generator.processes import COMMANDS, Place, Role, arguments

Object = dict[str, Any]

HOME = "/tmp"  # noqa: S108 - a volume of the pod's own
RESTORING = "restore"
"""The container that copies what another job keeps, before the server starts."""
CONFINED: Object = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
PROBE_SECONDS = 10
STARTUP_SECONDS = 2
"""A job's state is that of its pods, so that whoever watches a start sees it soon."""
CPU = {"scheduler": "50m", "server": "100m", "worker": "100m"}
RESTARTS: Object = {
    "restartPolicy": "Never",
    "restartPolicyRules": [
        {"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [0, *PERMANENT_EXIT_CODES]}}
    ],
}
"""In place, since a new pod of a Job waits ten seconds, then twenty, and so on (KEP-5307, on since 1.35)."""
UNKNOWN_MODEL = 1 << 30
"""Memory that is left to a program whose model nobody measured, beyond the request."""


def running(role: Role, place: Place, plan: Plan, *, model: Model | None) -> Object:
    """The container's fields, but for its image and what is mounted in it; it meets Pod Security `restricted`."""
    return {
        "command": list(COMMANDS[role]),
        "args": arguments(role, place),
        "env": _environment(role),
        "ports": _ports(role, place),
        "resources": _resources(role, plan, model),
        **_probes(role, plan),
        **(RESTARTS if role == "worker" else {}),
        "securityContext": CONFINED,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def restoring(
    image: str,
    uri: str,
    *,
    secret: str | None,
    folder: str,
    mount: Object,
    only: Sequence[str],
    job: str = "",
) -> Object:
    """A container that copies these files of a job's storage out of its store before others start; it claims nothing.

    With the uid of a `job` it refuses another one's.
    """
    command = ["python3", "-m", "fl_server.restore", "--store", uri, "--storage", folder]
    return {
        "name": RESTORING,
        "image": image,
        "command": [*command, *(["--job", job] if job else []), *(f"--only={path}" for path in only)],
        **({"envFrom": [{"secretRef": {"name": secret}}]} if secret else {}),
        "securityContext": CONFINED,
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [mount],
    }


def _environment(role: Role) -> list[Object]:
    """Threads and gRPC's silence as in a local run, and a home that can be written; programs keep their caches there.

    A server knows its pod, so that one that was replaced does not claim its storage again.
    """
    one = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONUNBUFFERED")
    pod = {"name": POD, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}
    return [
        {"name": "HOME", "value": HOME},
        *({"name": name, "value": "1"} for name in one),
        {"name": "GRPC_VERBOSITY", "value": "NONE"},
        *([pod] if role == "server" else []),
    ]


def _ports(role: Role, place: Place) -> list[Object]:
    ports = [("metrics", names.METRICS_PORT)]
    if role != "worker":
        ports.insert(0, ("grpc", names.PORT))
    if place.relay is not None:
        ports.append(("external", names.RELAY_PORT))
    return [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports]


def _resources(role: Role, plan: Plan, model: Model | None) -> Object:
    """Requests from the forecast; no limit of CPU, which would only slow a round down."""
    memory = footprint(plan, role, model=model)
    limit = 2 * memory + (0 if model else UNKNOWN_MODEL)
    return {
        "requests": {"cpu": CPU[role], "memory": _mebibytes(memory)},
        "limits": {"memory": _mebibytes(limit)},
    }


def _mebibytes(size: int) -> str:
    return f"{math.ceil(size / (1 << 20))}Mi"


def _probes(role: Role, plan: Plan) -> Object:
    """A start may take as long as the job may take to be ready; a worker that computes without
    answering is left alone for as long as a round would wait for it.
    """
    patience = plan.selection.stall_seconds if role == "worker" else 3 * PROBE_SECONDS
    return {
        "startupProbe": _probe("/healthz", plan.ready_seconds, period=STARTUP_SECONDS),
        "livenessProbe": _probe("/healthz", max(patience, 3 * PROBE_SECONDS)),
        "readinessProbe": _probe("/readyz", PROBE_SECONDS),
    }


def _probe(path: str, seconds: float, *, period: int = PROBE_SECONDS) -> Object:
    return {
        "httpGet": {"path": path, "port": "metrics"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": math.ceil(seconds / period),
    }
