"""What is kept of objects: all that anybody reads, and nothing that would be news to nobody."""

from __future__ import annotations

import datetime as dt
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fl_operator.cluster.resources import Object
from fl_operator.findings import is_ready, listener_of, of_pods, pods_of, soon
from fl_operator.kept import of_claim, of_job, of_pod, tells
from fl_operator.status import last_words

NOW = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
TIMES = st.sampled_from(["2026-01-01T11:59:55Z", "2026-01-01T11:00:00Z"])
REASONS = (
    "ContainerCreating",
    "PodInitializing",
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "CrashLoopBackOff",
)
ENDED = st.fixed_dictionaries(
    {"exitCode": st.sampled_from([0, 1, 64, 66, 137])},
    optional={
        "reason": st.sampled_from(["Error", "OOMKilled", "Completed"]),
        "message": st.sampled_from(["it broke", '{"reason": "RoundsDone", "round": 3, "metrics": {}}']),
    },
)
WAITING = st.fixed_dictionaries({"reason": st.sampled_from(REASONS), "message": st.sampled_from(["", "why"])})
STATES = st.one_of(
    st.just({}),
    st.builds(lambda at: {"running": {"startedAt": at}}, TIMES),
    st.builds(lambda ended: {"terminated": ended}, ENDED),
    st.builds(lambda waiting: {"waiting": waiting}, WAITING),
)
CONDITIONS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["Ready", "PodScheduled", "Initialized", "ContainersReady"]),
        "status": st.sampled_from(["True", "False"]),
        "lastTransitionTime": TIMES,
    },
    optional={"reason": st.just("Unschedulable"), "message": st.just("0/1 nodes are available")},
)


def containers(*names: str) -> st.SearchStrategy[list[Object]]:
    counts = st.integers(0, 3)
    one = st.fixed_dictionaries(
        {"name": st.sampled_from(names), "state": STATES, "lastState": STATES, "restartCount": counts}
    )
    return st.lists(one, max_size=2, unique_by=lambda container: str(container["name"]))


STATUSES = st.fixed_dictionaries(
    {},
    optional={
        "phase": st.sampled_from(["Pending", "Running", "Succeeded", "Failed"]),
        "reason": st.sampled_from(["Evicted", "NodeLost"]),
        "message": st.just("the node was low on memory"),
        "podIP": st.just("10.0.0.7"),
        "hostIP": st.just("10.0.0.1"),
        "conditions": st.lists(CONDITIONS, unique_by=lambda one: str(one["type"])),
        "containerStatuses": containers("fl", "sidecar"),
        "initContainerStatuses": containers("restore", "other"),
    },
)


def pod(status: Object, *, role: str = "server", **metadata: Any) -> Object:
    return {
        "metadata": {"name": "p", "labels": {"fljob.dev/role": role}, **metadata},
        "spec": {
            "nodeName": "n",
            "containers": [{"name": "fl", "image": "i", "resources": {"limits": {"memory": "1Gi"}}}],
        },
        "status": status,
    }


def read(one: Object) -> list[Any]:
    """All that the operator reads of a pod."""
    listener = listener_of(pods_of([one], "server"))
    ready = [is_ready(found) for role in ("server", "worker") for found in pods_of([one], role)]
    return [of_pods([one], now=NOW, restarts=1), soon([one], now=NOW), listener, ready, last_words(one)]


@given(STATUSES, st.sampled_from(["server", "worker", "scheduler"]), st.booleans())
def test_what_is_kept_of_a_pod_tells_all(status: Object, role: str, goes: bool) -> None:  # noqa: FBT001
    """Troubles, readiness, address and last words are those of the whole pod; where it has any, its news are told."""
    whole = pod(status, role=role, **({"deletionTimestamp": "now"} if goes else {}))
    assert read(of_pod(whole)) == read(whole)
    assert of_pod(of_pod(whole)) == of_pod(whole)
    if read(whole) != read(pod({}, role=role)):
        assert tells(None, of_pod(whole))
        assert tells(of_pod(whole), None)


def test_a_pod_that_is_being_started_is_no_news() -> None:
    """Until it is ready nobody hears of it; that it is ready, that it is so no more, and that it goes is told."""
    placed = {"type": "PodScheduled", "status": "True"}
    creating = {"name": "fl", "state": {"waiting": {"reason": "ContainerCreating"}}}
    running = {"name": "fl", "state": {"running": {"startedAt": "2026-01-01T11:00:00Z"}}}
    starting: list[Object] = [
        {},
        {"phase": "Pending", "conditions": [placed]},
        {"phase": "Pending", "conditions": [placed], "containerStatuses": [creating]},
        {"phase": "Running", "podIP": "10.0.0.7", "conditions": [placed], "containerStatuses": [running]},
    ]
    kept = [of_pod(pod(status)) for status in starting]
    assert kept == [kept[0]] * len(starting)
    assert not tells(None, kept[0])
    ready = of_pod(pod({**starting[-1], "conditions": [{"type": "Ready", "status": "True"}]}))
    assert tells(kept[-1], ready)
    assert tells(ready, kept[-1])
    assert tells(kept[0], of_pod(pod({}, deletionTimestamp="now")))
    assert not tells(
        None, of_pod(pod({"conditions": [{"type": "Ready", "status": "True"}]}, role="scheduler"))
    )


def test_a_volume_is_no_news_of_its_claim() -> None:
    """What was asked for stays in the copy; which volume it got does not, nor does what the binder wrote there."""
    asked: Object = {
        "metadata": {"name": "c", "labels": {"a": "b"}},
        "spec": {"resources": {"requests": {"storage": "1Gi"}}},
    }
    bound = {
        "metadata": {**asked["metadata"], "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {**asked["spec"], "volumeName": "v"},
        "status": {"phase": "Bound"},
    }
    assert of_claim(bound) == of_claim(asked) == asked


def test_what_a_job_came_to_is_kept() -> None:
    """Its conditions and the indexes that failed, without its counts of pods."""
    job: Object = {"metadata": {"name": "j"}, "spec": {"suspend": False}}
    status = {"failedIndexes": "1", "active": 3, "startTime": "now"}
    assert of_job({**job, "status": status}) == {**job, "status": {"failedIndexes": "1"}}
    assert of_job({**job, "status": {"failedIndexes": ""}}) == of_job(job)
    server = {**job, "metadata": {"name": "s", "labels": {"fljob.dev/role": "server"}}}
    assert of_job({**server, "status": {"failed": 2, "active": 1}})["status"] == {"failed": 2}
    assert of_job({**job, "status": {"failed": 2}}) == of_job(job)
