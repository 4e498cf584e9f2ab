"""What the pods of a job and the events about its children tell: who has which trouble, and what to do about it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from fl_core.errors import PERMANENT_EXIT_CODES, RetryError
from fl_operator.cluster.resources import Object
from fl_operator.conditions import REASONS
from fl_operator.deaths import NO_CAUSE, cause_of, death_of, ended_of, short
from job_generator.containers import RESTORING
from job_generator.names import PORT, ROLE, SITE
from job_generator.pods import CONTAINER

INDEX: Final = "batch.kubernetes.io/job-completion-index"
KILLED: Final = 137
ORDERLY: Final = frozenset({RetryError.exit_code, 143})
"""Exit codes of a worker that found nobody, or was told to end, as for a new certificate: it did not die."""
EXHAUSTED: Final = "RestartsExhausted"
CRASH_LOOP: Final = "CrashLoopBackOff"

UNBOUND_ADVICE: Final = (
    "no volume was made for the claim: see to its storage class, or name another spec.server.storage.storageClassName, "
    "existingClaim or uri in another job"
)
UNBOUND: Final = "unbound immediate persistentvolumeclaims"
"""What a scheduler says of a pod whose claim has no volume, and no class that waits for the pod."""

ADVICE: Final[Mapping[str, str]] = {
    "ImagePullBackOff": "check the image's name and the pull secrets",
    "ErrImageNeverPull": "load the image on the node, or let imagePullPolicy pull it",
    "InvalidImageName": "mend the image's name",
    "CreateContainerConfigError": "check the ConfigMaps and Secrets that template and storage.secretName name",
    "CreateContainerError": "look at `kubectl describe pod`",
    "RunContainerError": "look at `kubectl describe pod`",
    CRASH_LOOP: "look at its log",
    "Unschedulable": "add nodes, or lower the requests in its template",
    "Evicted": "its node ran out of something; raise the requests in its template",
    EXHAUSTED: "look at its log; mended, it counts again once its pod is deleted",
    "OOMKilled": "raise the memory limit in its template",
    "FailedMount": "check that the claim, ConfigMap or Secret exists",
    "FailedAttachVolume": "the volume may still be held by a node that was lost",
    "ProvisioningFailed": "check spec.server.storage.storageClassName",
    "FailedCreate": "mend what the message names, or the namespace's quota or policy",
}
"""What to do about each kind of trouble."""

CLAIM_ADVICE: Final = "make the claim that it names, or give it a volume"
"""A pod may lack a node because it lacks its volume."""

WARNINGS: Final = frozenset({"FailedCreate", "FailedMount", "FailedAttachVolume", "ProvisioningFailed"})
"""Events that show trouble which no pod shows."""

PASSING: Final = "cache: timed out waiting for the condition"
"""What a kubelet says of ConfigMaps and Secrets that it has not read yet; it tries again at once."""

WAITING: Final = frozenset(
    {
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        CRASH_LOOP,
    }
)
"""Reasons for which a container does not start."""

PULLING: Final = frozenset({"ErrImagePull", "ImagePullBackOff"})
"""What a kubelet that pulls in vain says in turn, for one trouble."""

OVER: Final = frozenset({"Succeeded", "Failed"})
"""Phases of a pod that will not run again."""

MOST_SENTENCES: Final = 5
MOST_NAMES: Final = 3
"""So many processes with the same trouble are named."""

MOST_CRASHES: Final = 3
"""Starts after a death, from which on a container that runs again is in trouble all the same."""
RECOVERED: Final = dt.timedelta(minutes=10)
"""After its last death a container is well. A kubelet waits for half of it at most before it starts one again."""

SETTLE: Final = dt.timedelta(seconds=10)
"""A pod may wait so long for its node before anybody hears of it: its claim may just be being made."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One trouble; with an `exit_code` that is permanent, its process will not come back."""

    who: str
    reason: str
    detail: str = ""
    exit_code: int = 0

    @property
    def permanent(self) -> bool:
        """Whether only the job's author can mend it."""
        return self.exit_code in PERMANENT_EXIT_CODES or self.reason == EXHAUSTED

    def __str__(self) -> str:
        told = f"{self.who}: {self.reason}" + (f" ({self.detail})" if self.detail else "")
        return f"{told}; {self._advice}" if self._advice else told

    @property
    def _advice(self) -> str:
        if self.reason == "Unschedulable" and self.who == "server" and UNBOUND in self.detail.lower():
            return UNBOUND_ADVICE
        if self.reason == "Unschedulable" and "persistentvolumeclaim" in self.detail.lower():
            return CLAIM_ADVICE
        return ADVICE.get(self.reason, "")


@dataclass(frozen=True, slots=True)
class Listener:
    """A process in a pod, told from an earlier one at the same place by when it began."""

    host: str
    """The pod's address: names are kept in caches for longer than pods live."""
    port: int
    since: str = ""

    @property
    def address(self) -> str:
        """As gRPC dials it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def who(pod: Object) -> str:
    """The process that runs in a pod, as users call it."""
    labels = pod["metadata"].get("labels", {})
    role = labels.get(ROLE, "pod")
    if role != "worker":
        return str(role)
    return f"site {labels[SITE]}" if SITE in labels else f"worker {labels.get(INDEX, '?')}"


def of_pods(pods: Iterable[Object], *, now: dt.datetime, restarts: int) -> list[Finding]:
    """The troubles of pods that should be running, the permanent ones first.

    `restarts` is how often a worker may be started again before its death is its end.
    """
    found = (_given_up(pod, restarts) if is_given_up(pod, restarts) else _of_pod(pod, now) for pod in pods)
    each = {finding for some in found for finding in some}
    return sorted(each, key=lambda one: (not one.permanent, one))


def soon(pods: Iterable[Object], *, now: dt.datetime) -> dt.datetime | None:
    """When the next of these pods has waited for its node for too long, or is well again; None where none will be."""
    pods = list(pods)
    ends = [_since(pod) + SETTLE for pod in pods if _unscheduled(pod) is not None]
    ends += filter(None, (_crashing_until(_container(pod)) for pod in pods))
    return min((end for end in ends if end > now), default=None)


def sentences(findings: Iterable[Finding]) -> list[str]:
    """The troubles in sentences; what several processes have alike is one, and names the first of them."""
    alike: dict[Finding, list[str]] = {}
    for finding in findings:
        alike.setdefault(replace(finding, who=""), []).append(finding.who)
    return [str(replace(one, who=_several(names))) for one, names in alike.items()]


def shown(findings: Iterable[Finding]) -> list[str]:
    """The first of the sentences: no reader wants them all."""
    return sentences(findings)[:MOST_SENTENCES]


def summary(findings: Sequence[Finding]) -> str:
    """The first of the sentences, in one line."""
    left = len(sentences(findings)) - MOST_SENTENCES
    more = f"; and {left} more" if left > 0 else ""
    return "; ".join(shown(findings)) + more


def _several(names: list[str]) -> str:
    others = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {others} more" if others > 0 else "")


def of_events(events: Iterable[Object]) -> list[Finding]:
    """The troubles that show in events about the children only: quota, policies, mounts, claims."""
    found = set()
    for event in events:
        said = event.get("note") or event.get("message") or ""
        if event.get("type") == "Warning" and event.get("reason") in WARNINGS and PASSING not in said:
            about = event.get("regarding") or event.get("involvedObject") or {}
            name = f"{about.get('kind', 'object')} {about.get('name', '')}"
            found.add(Finding(name, event["reason"], short(said)))
    return sorted(found)


def pods_of(pods: Iterable[Object], role: str) -> list[Object]:
    """The pods of one role."""
    return [pod for pod in pods if pod["metadata"].get("labels", {}).get(ROLE) == role]


def job_of(children: Iterable[Object], role: str) -> Object | None:
    """The Job of a role that has one."""
    jobs = (child for child in children if child["kind"] == "Job")
    return next((job for job in jobs if job["metadata"].get("labels", {}).get(ROLE) == role), None)


def is_ready(pod: Object) -> bool:
    """Whether a pod is ready; what a lost node last said of it counts no more once it is over or has to go."""
    status = pod.get("status", {})
    if pod["metadata"].get("deletionTimestamp") or status.get("phase") in OVER:
        return False
    return any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", ()))


def has_done(pod: Object) -> bool:
    """Whether a process ended in order, which none does before the training is over."""
    return bool(pod.get("status", {}).get("phase") == "Succeeded")


def is_given_up(pod: Object, restarts: int) -> bool:
    """Whether a worker that died last was started again more often than it may, for whatever reason each time.

    Kubernetes counts all starts, and keeps the last end only: one that ends in order after that was at work again.
    """
    if pod["metadata"].get("deletionTimestamp") or pod.get("status", {}).get("phase") in OVER:
        return False
    container = _container(pod)
    died = (ended := ended_of(container)) and ended.get("exitCode") not in ORDERLY
    return bool(pods_of([pod], "worker") and died and container.get("restartCount", 0) > restarts)


def is_final(pod: Object) -> bool:
    """Whether the process of a pod ended with what only the job's author can mend."""
    return ended_of(_container(pod)).get("exitCode") in PERMANENT_EXIT_CODES


def listener_of(pods: Iterable[Object]) -> Listener | None:
    """The ready one of these pods as who listens at its port."""
    for pod in filter(is_ready, pods):
        if host := pod["status"].get("podIP"):
            running = _container(pod).get("state", {}).get("running") or {}
            ready = next(one for one in pod["status"]["conditions"] if one["type"] == "Ready")
            since = (running.get("startedAt", ""), ready.get("lastTransitionTime", ""))
            return Listener(host, PORT, since=" ".join(map(str, since)))
    return None


def lost_workers(children: Iterable[Object]) -> int:
    """How many indexes of the workers' Jobs have failed for good."""
    return sum(
        _count_indexes(child.get("status", {}).get("failedIndexes", ""))
        for child in children
        if child["kind"] == "Job" and child["metadata"].get("labels", {}).get(ROLE) == "worker"
    )


def termination_message(pod: Object) -> str:
    """What the process of a pod that has ended left as its last word."""
    state = _container(pod).get("state", {}).get("terminated", {})
    return str(state.get("message") or "")


def _of_pod(pod: Object, now: dt.datetime) -> Iterator[Finding]:
    status = pod.get("status", {})
    if pod["metadata"].get("deletionTimestamp"):
        return
    if status.get("reason") == "Evicted":
        yield Finding(who(pod), "Evicted", short(status.get("message", "")))
        return
    if (condition := _unscheduled(pod)) is not None and now >= _since(pod) + SETTLE:
        yield Finding(
            who(pod), str(condition.get("reason", "Unschedulable")), short(condition.get("message", ""))
        )
    yield from _of_container(pod, _restoring(pod), now)
    yield from _of_container(pod, _container(pod), now)


def _given_up(pod: Object, restarts: int) -> Iterator[Finding]:
    ended = ended_of(_container(pod))
    code = int(ended.get("exitCode") or 0)
    if ended.get("reason") == "OOMKilled":
        why = f" ({limit})" if (limit := _limit(pod)) else ""
    else:
        why = f": {cause}" if (cause := cause_of(ended)) else ""
    often = f"more than spec.workers.restartsPerWorker ({restarts}) times"
    detail = f"it was started again {often}, last after {death_of(ended)}{why}"
    yield Finding(who(pod), EXHAUSTED, detail, code)


def _of_container(pod: Object, container: Mapping[str, Any], now: dt.datetime) -> Iterator[Finding]:
    state, ended = container.get("state", {}), ended_of(container)
    code = int(ended.get("exitCode") or 0)
    if ended.get("reason") == "OOMKilled":
        yield Finding(who(pod), "OOMKilled", _limit(pod), KILLED)
    elif code in PERMANENT_EXIT_CODES:
        yield Finding(who(pod), REASONS[code], cause_of(ended), code)
    reason, detail = _waiting(state.get("waiting") or {})
    if reason not in WAITING and (ends := _crashing_until(container)) and now < ends:
        reason = CRASH_LOOP
    if reason in WAITING and code not in PERMANENT_EXIT_CODES:
        if reason == CRASH_LOOP:
            detail = _crash(ended)
        yield Finding(who(pod), reason, short(detail), code)


def _crash(ended: Mapping[str, Any]) -> str:
    """How a container died that is started again ever later; who is killed for its memory can say nothing of it."""
    cause = cause_of(ended) or ("" if ended.get("reason") == "OOMKilled" else NO_CAUSE)
    return death_of(ended) + (f": {cause}" if cause else "")


def _crashing_until(container: Mapping[str, Any]) -> dt.datetime | None:
    """Until when a container that died several times counts as crashing; None for one that did not.

    Between two deaths it runs for a moment, or waits in a state that is not said to be a back-off.
    """
    ended = ended_of(container)
    code, at = ended.get("exitCode"), ended.get("finishedAt")
    if not at or code in ORDERLY or ended.get("reason") == "OOMKilled":
        return None
    often = container.get("restartCount", 0) >= MOST_CRASHES
    return dt.datetime.fromisoformat(at) + RECOVERED if often and code else None


def _waiting(state: Mapping[str, str]) -> tuple[str, str]:
    """Why a container waits."""
    reason, message = state.get("reason", ""), state.get("message", "")
    if reason in PULLING:
        return "ImagePullBackOff", message.rpartition("ErrImagePull: ")[2]
    return reason, message


def _count_indexes(text: str) -> int:
    """How many numbers `1,3-5` names."""
    spans = [span.partition("-") for span in text.split(",") if span]
    return sum(int(end or start) - int(start) + 1 for start, _, end in spans)


def _unscheduled(pod: Object) -> Mapping[str, Any] | None:
    """The condition that says why a pod has no node, if it has none."""
    conditions = pod.get("status", {}).get("conditions", ())
    return next(
        (one for one in conditions if one["type"] == "PodScheduled" and one["status"] == "False"), None
    )


def _since(pod: Object) -> dt.datetime:
    """Since when a pod waits for its node."""
    condition = _unscheduled(pod) or {}
    return dt.datetime.fromisoformat(condition.get("lastTransitionTime") or "1970-01-01T00:00:00Z")


def _container(pod: Object) -> Mapping[str, Any]:
    statuses = pod.get("status", {}).get("containerStatuses", ())
    return next((one for one in statuses if one["name"] == CONTAINER), {})


def _restoring(pod: Object) -> Mapping[str, Any]:
    """What copies another job's model before the server starts, as long as it has not."""
    statuses = pod.get("status", {}).get("initContainerStatuses", ())
    status: Mapping[str, Any] = next((one for one in statuses if one["name"] == RESTORING), {})
    ended = status.get("state", {}).get("terminated") or {}
    return {} if ended.get("exitCode") == 0 else status


def _limit(pod: Object) -> str:
    containers = pod.get("spec", {}).get("containers", ())
    own: Object = next((one for one in containers if one["name"] == CONTAINER), {})
    limit = own.get("resources", {}).get("limits", {}).get("memory")
    return f"limit {limit}" if limit else ""
