"""What holds a job back is told in its conditions, with what to do: workers that die again and again, no storage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from fl_operator.findings import is_ready
from tests.cluster.lab import DEFAULT, Lab

pytestmark = [pytest.mark.cluster, pytest.mark.level(3)]

Map = dict[str, Any]


def died(lab: Lab, name: str, *, times: int) -> None:
    """Let a kubelet say of a pod that its worker died so often, and runs again."""
    last = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    own = {"name": "fl", "image": "x", "imageID": "", "ready": True, "restartCount": times, "lastState": last}
    status = lab.get("pod", name)["status"]
    running = {**own, "state": {"running": {"startedAt": status["startTime"]}}}
    change = {"status": {"containerStatuses": [running]}}
    lab.kubectl("patch", "pod", name, "--subresource=status", "--type=merge", "--patch", json.dumps(change))


def test_a_worker_that_died_too_often_is_lost(lab: Lab) -> None:
    """Its pod still runs, but the job counts it as lost and says why; with too few left the job fails."""
    lab.operator(*lab.on_fake_nodes())
    lab.apply(server=lab.storage(), workers={"replicas": 4, "restartsPerWorker": 2})
    lab.eventually(lambda: lab.condition("Ready") == ("True", "Quorum"))
    first, second, *_ = sorted(pod["metadata"]["name"] for pod in lab.pods("worker"))
    died(lab, first, times=2)
    lab.eventually(lambda: "OOMKilled" in lab.told("Degraded")["message"])
    assert lab.get("fljob", "digits")["status"]["workers"]["lost"] == 0
    died(lab, first, times=3)
    lab.eventually(lambda: lab.condition("Degraded") == ("True", "RestartsExhausted"))
    message = lab.told("Degraded")["message"]
    told = (
        "worker 0: RestartsExhausted (it was started again more than spec.workers.restartsPerWorker (2) times"
    )
    assert told in message
    assert lab.get("fljob", "digits")["status"]["workers"]["lost"] == 1
    lab.eventually(lambda: "RestartsExhausted" in lab.reasons())
    died(lab, second, times=3)
    lab.eventually(lambda: lab.condition("Failed") == ("True", "RestartsExhausted"))
    assert "2 of 4 workers are lost, 3 are needed" in lab.told("Failed")["message"]


@pytest.fixture
def default(lab: Lab) -> Iterator[str]:
    """The cluster's default storage class, which it has no more, as far as the API server knows by now."""
    classes = [one["metadata"] for one in lab.get("storageclasses")]
    name = next(one["name"] for one in classes if one["annotations"].get(DEFAULT) == "true")
    make_default(lab, name, "false")
    lab.eventually(lambda: "storageClassName" not in dry_claim(lab)["spec"])
    yield name
    make_default(lab, name, "true")


def make_default(lab: Lab, name: str, word: str) -> None:
    lab.cluster.kubectl("annotate", "--overwrite", "storageclass", name, f"{DEFAULT}={word}")


def dry_claim(lab: Lab) -> Map:
    """What would become of a claim that names no storage class."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "dry"}, "spec": spec}
    words = ("create", "--dry-run=server", "-o", "json", "-f", "-")
    return dict(json.loads(lab.kubectl(*words, stdin=claim)))


@pytest.mark.level(2)
def test_a_cluster_without_a_storage_class_is_told_what_to_do(lab: Lab, default: str) -> None:
    """Where nothing was chosen, and the cluster has no default, the condition names all that can be chosen, and
    nothing is made; the job goes on by itself when there is a default.
    """
    lab.operator(*lab.on_fake_nodes())
    lab.apply()
    lab.eventually(lambda: lab.condition("Compiled") == ("False", "NoStorageClass"))
    told = (
        "spec.server.storage: names no storage class, and the cluster has no default: give it one, or submit the job "
        'with storageClassName, existingClaim or uri; storageClassName: "" is for a volume that has no class either'
    )
    assert lab.told("Compiled")["message"] == told
    assert lab.children() == {}
    make_default(lab, default, "true")
    lab.eventually(lambda: lab.condition("Compiled") == ("True", "Compiled"))
    lab.eventually(lambda: len(lab.jobs()) == 3)


def test_a_server_that_is_lost_again_and_again_comes_back_soon(lab: Lab) -> None:
    """After the third loss its Job is made anew, whose next pod comes at once; the storage stays the same."""
    lab.operator(*lab.on_fake_nodes())
    lab.apply(server=lab.storage())
    for _ in range(3):
        lab.eventually(lambda: any(map(is_ready, lab.pods("server"))))
        before = lab.get("job", "digits-server")["metadata"]["uid"]
        lab.kubectl("delete", "pod", "-l", "fljob.dev/role=server")
    lab.eventually(
        lambda: (
            (lab.get("job", "digits-server") or {"metadata": {"uid": before}})["metadata"]["uid"] != before
        ),
        within=20,
    )
    lab.eventually(lambda: any(map(is_ready, lab.pods("server"))), within=20)
    lab.eventually(lambda: "Renewed" in lab.reasons())
    assert lab.get("job", "digits-server").get("status", {}).get("failed", 0) == 0
