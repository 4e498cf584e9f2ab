"""The pod through which a job's storage is read, wherever that is."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from fl_core.errors import UnavailableError
from job_generator.cluster.connection import RefusedError, Request
from job_generator.cluster.reader import BEST, RECORD, START_SECONDS, _await, reader


def job(**storage: Any) -> dict[str, Any]:
    """An FLJob that had a server."""
    return {
        "metadata": {"name": "digits", "namespace": "research", "uid": "u-1"},
        "spec": {"server": {"storage": storage}},
        "status": {"images": {"server": "fljob:1"}},
    }


def test_a_claim_is_mounted_for_reading() -> None:
    """What is in a volume is read there, and nothing runs before that."""
    spec = reader(job(existingClaim="shared"), "reader", only=RECORD, server={})["spec"]
    assert "initContainers" not in spec
    assert spec["volumes"] == [{"name": "storage", "persistentVolumeClaim": {"claimName": "shared"}}]
    assert all(mount["readOnly"] for mount in spec["containers"][0]["volumeMounts"])


@pytest.mark.parametrize("secret", ["keys", None])
def test_a_store_is_copied_first(secret: str | None) -> None:
    """What is in a store of objects is copied to where it is served, with the credentials in that container alone."""
    storage = {"uri": "s3://models/digits", **({"secretName": secret} if secret else {})}
    spec = reader(job(**storage), "reader", only=(BEST,), server={})["spec"]
    (copying,), (serving,) = spec["initContainers"], spec["containers"]
    assert spec["volumes"] == [{"name": "storage", "emptyDir": {}}]
    folder = serving["command"][serving["command"].index("--directory") + 1]
    assert copying["command"][2:] == [
        "fl_server.restore", "--store", "s3://models/digits", "--storage", folder, "--job", "u-1",
        "--only=models/best.safetensors"
    ]  # fmt: skip
    assert copying.get("envFrom") == ([{"secretRef": {"name": secret}}] if secret else None)
    assert "envFrom" not in serving
    for one in (copying, serving):
        assert one["securityContext"]["readOnlyRootFilesystem"] is True
        assert one["image"] == "fljob:1"


def test_a_reader_goes_to_its_server() -> None:
    """A disk is on one node at a time: the pod goes where the server runs, if it can, and to the server's nodes."""
    nodes: dict[str, Any] = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}
    made = reader(job(), "reader", only=(BEST,), server={"affinity": {"nodeAffinity": nodes}})
    affinity = made["spec"]["affinity"]
    (term,) = affinity["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    chosen = term["podAffinityTerm"]["labelSelector"]
    assert chosen == {
        "matchLabels": {"fljob.dev/job": "digits"},
        "matchExpressions": [{"key": "fljob.dev/role", "operator": "In", "values": ["server"]}],
    }
    assert affinity["nodeAffinity"] == nodes


def test_a_folder_that_only_the_server_mounts_is_not_read() -> None:
    """A storage in a mounted folder is refused before a pod is made, with what reads it."""
    with pytest.raises(
        RefusedError, match=r"in file:///mnt/digits, .*fl_server.restore --store file:///mnt/digits"
    ):
        reader(job(uri="file:///mnt/digits"), "reader", only=RECORD, server={})


@pytest.mark.parametrize("storage", [{"existingClaim": "shared"}, {"uri": "s3://models/digits"}])
def test_a_reader_runs_as_the_server_does(storage: dict[str, Any]) -> None:
    """What the cluster's own template says of user, nodes and images holds for each container of the reader, too."""
    placed = {"imagePullSecrets": [{"name": "registry"}], "nodeSelector": {"pool": "training"}}
    cluster_chooses = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    own = {"name": "fl", "imagePullPolicy": "Never", "securityContext": {"runAsUser": 7}, "image": "fljob:2"}
    beside = {"name": "proxy", "imagePullPolicy": "Always"}
    server = {**placed, "securityContext": cluster_chooses, "containers": [beside, own], "volumes": []}
    spec = reader(job(**storage), "reader", only=(BEST,), server=server)["spec"]
    assert placed.items() <= spec.items()
    assert spec["securityContext"] == cluster_chooses
    for one in (*spec.get("initContainers", ()), *spec["containers"]):
        assert (one["imagePullPolicy"], one["securityContext"]) == ("Never", {"runAsUser": 7})
        assert (one["image"], one["name"] in {"reader", "restore"}) == ("fljob:1", True)
    assert [one["name"] for one in spec["volumes"]] == ["storage"]


class Copying:
    """An API server that shows a pod which copies for so many looks, and then runs or does not."""

    def __init__(self, looks: int, *, runs: bool) -> None:
        self.looks, self.runs, self.now = looks, runs, 0.0

    def send(self, _: Request) -> dict[str, Any]:
        """The pod's status."""
        self.looks -= 1
        if self.looks < 0 and self.runs:
            return {"status": {"phase": "Running"}}
        state = {"running": {}} if self.looks >= 0 else {"terminated": {"exitCode": 0}}
        return {
            "status": {"phase": "Pending", "initContainerStatuses": [{"name": "restore", "state": state}]}
        }

    def pause(self, seconds: float) -> None:
        """Time goes on."""
        self.now += seconds


@pytest.mark.parametrize("runs", [True, False])
def test_a_copy_may_take_longer_than_a_start(monkeypatch: pytest.MonkeyPatch, *, runs: bool) -> None:
    """While the storage is copied nobody gives up; after that the pod has as long to start as any other."""
    cluster = Copying(looks=10 * int(START_SECONDS), runs=runs)
    monkeypatch.setattr("time.monotonic", lambda: cluster.now)
    monkeypatch.setattr("time.sleep", cluster.pause)
    with nullcontext() if runs else pytest.raises(UnavailableError, match="after it had copied"):
        _await(cluster, "pods/reader", "reader")  # type: ignore[arg-type]
    assert cluster.now >= 4 * START_SECONDS
