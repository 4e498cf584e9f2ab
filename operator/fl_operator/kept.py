"""What is kept of each kind of object: what anybody here reads of it, so that nothing else is news."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fl_operator.cluster.informer import trimmed
from fl_operator.cluster.resources import Object
from fl_operator.findings import OVER, PULLING, WAITING, is_ready
from fl_operator.renewal import ALONE
from job_generator.containers import RESTORING
from job_generator.names import ROLE
from job_generator.pods import CONTAINER

OF_CONTAINER: Final = ("name", "resources")
OF_JOB: Final = ("conditions", "failedIndexes", "succeeded")
"""A Job's counts of pods change often, and the pods themselves tell more; how many were lost counts where there
is one at a time."""
AWAITED: Final = frozenset({"server", "worker"})
"""The roles of whose pods it matters that they are ready."""


def of_job(thing: Object) -> Object:
    """A Job: what it should be, and what it came to."""
    alone = thing["metadata"].get("labels", {}).get(ROLE) in ALONE
    came = _chosen(thing.get("status") or {}, *OF_JOB, *(["failed"] if alone else []))
    return {**trimmed(thing), "status": {name: value for name, value in came.items() if value}}


def of_claim(thing: Object) -> Object:
    """A claim as it was asked for; which volume it got shows in the pods that wait for it."""
    slim = trimmed(thing)
    metadata = {name: value for name, value in slim["metadata"].items() if name != "annotations"}
    spec = {name: value for name, value in thing.get("spec", {}).items() if name != "volumeName"}
    return {
        **{name: value for name, value in slim.items() if name != "status"},
        "metadata": metadata,
        "spec": spec,
    }


def of_pod(thing: Object) -> Object:
    """A pod: whose it is, whether and where it is ready, and its troubles; nothing of how it comes to start."""
    slim = trimmed(thing)
    given = thing.get("spec", {}).get("containers", ())
    slim["spec"] = {"containers": [_chosen(one, *OF_CONTAINER) for one in given]}
    slim["status"] = _signs(thing, thing.get("status") or {})
    return slim


def tells(old: Object | None, new: Object | None) -> bool:
    """Whether a pod that changed says anything, or did: one that is just being started has come unheard."""
    return any(
        thing is not None and bool(thing["status"] or thing["metadata"].get("deletionTimestamp"))
        for thing in (old, new)
    )


def _signs(pod: Object, status: Mapping[str, Any]) -> Object:
    """The status of a pod without what nobody reads; the empty one of a pod that is being started."""
    awaited = pod["metadata"].get("labels", {}).get(ROLE) in AWAITED
    ready = awaited and is_ready(pod)
    said = [("PodScheduled", "False"), *([("Ready", "True")] if awaited else [])]
    kept = _chosen(status, "reason", "message", *(["podIP"] if ready else []))
    if status.get("phase") in OVER:
        kept["phase"] = status["phase"]
    lists = {
        "conditions": [one for one in status.get("conditions", ()) if (one["type"], one["status"]) in said],
        "containerStatuses": list(_containers(status, "containerStatuses", CONTAINER, ready=ready)),
        "initContainerStatuses": list(_containers(status, "initContainerStatuses", RESTORING, ready=False)),
    }
    return kept | {name: value for name, value in lists.items() if value}


def _containers(status: Mapping[str, Any], name: str, chosen: str, *, ready: bool) -> Iterator[Object]:
    """The container that is ours, if its state says more than that it is being started."""
    for one in status.get(name, ()):
        if one["name"] == chosen:
            state, last = (_state(one.get(part) or {}, ready=ready) for part in ("state", "lastState"))
            if state or last:
                again = {"restartCount": count} if (count := one.get("restartCount")) else {}
                yield {"name": chosen, "state": state, "lastState": last, **again}


def _state(state: Mapping[str, Any], *, ready: bool) -> Object:
    waits = (state.get("waiting") or {}).get("reason") in WAITING | PULLING
    return _chosen(state, "terminated", *(["waiting"] if waits else []), *(["running"] if ready else []))


def _chosen(given: Mapping[str, Any], *names: str) -> Object:
    return {name: given[name] for name in names if name in given}
