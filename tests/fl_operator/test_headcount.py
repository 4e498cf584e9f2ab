"""How many workers a job has left."""

from __future__ import annotations

from typing import Any

from fl_operator.actions import Seen
from fl_operator.headcount import workers_of
from job_generator.names import ROLE


class Pod(dict[str, Any]):
    """One that is compared with no other."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("two pods were compared, field by field")

    __hash__ = None  # type: ignore[assignment]


def worker(index: int, code: int) -> Pod:
    """A ready worker whose process ended so before."""
    container = {"name": "fl", "restartCount": 11, "lastState": {"terminated": {"exitCode": code}}}
    ready = {"type": "Ready", "status": "True"}
    return Pod(
        metadata={"name": f"digits-worker-{index}", "labels": {ROLE: "worker"}},
        status={"conditions": [ready], "containerStatuses": [container]},
    )


def test_who_is_given_up_is_not_ready_whatever_its_pod_says() -> None:
    """Pods are told apart by their names: a thousand of which half are lost are half a million comparisons."""
    spec = {"workers": {"replicas": 4}}
    pods = [worker(index, code) for index, code in enumerate((1, 143, 1, 143))]
    told = workers_of(Seen(job={"metadata": {"name": "digits"}}, pods=pods), spec, restarts=10)
    assert (told["ready"], told["lost"]) == (2, 2)
