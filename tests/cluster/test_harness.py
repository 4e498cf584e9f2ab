"""The harness itself: each level does what it is there for."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cluster import Cluster
from harness.control_plane import ON_FAKE_NODES
from harness.objects import objects
from harness.waiting import until

pytestmark = pytest.mark.cluster

CRD = Path(__file__).parents[2] / "manifests" / "crd.yaml"


def test_the_api_server_knows_an_fljob(cluster: Cluster) -> None:
    """The project's definition is applied, and `kubectl explain` answers from it."""
    cluster.kubectl("apply", "-f", str(CRD))
    cluster.kubectl("wait", "--for=condition=Established", "crd/fljobs.fljob.dev", "--timeout=30s")
    assert until(lambda: "program" in cluster.kubectl("explain", "fljob.spec", check=False).stdout)


def test_an_error_says_what_kubectl_said(cluster: Cluster) -> None:
    """A failing kubectl is an error with its own words."""
    with pytest.raises(RuntimeError, match="not found"):
        cluster.kubectl("get", "pod", "nobody")


def test_namespaces_are_apart(cluster: Cluster, namespace: str) -> None:
    """Each test has a namespace that bears its name and is empty."""
    assert namespace.startswith("test-namespaces-are-apart-")
    assert cluster.kubectl("get", "pods", "-n", namespace, "-o", "name").stdout == ""


WORDS = [
    ("configmap", "one"),
    ("configmap/one",),
    ("configmaps",),
    ("configmaps", "--field-selector", "metadata.name=two"),
    ("services,configmaps", "-l", "side=left"),
    ("namespaces", "-l", "kubernetes.io/metadata.name=default"),
    ("networkpolicies",),
]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_objects_are_those_that_kubectl_shows(
    cluster: Cluster, namespace: str, words: tuple[str, ...]
) -> None:
    """One, a list, several kinds, what selectors choose, and nothing; but kubectl hides who wrote what."""
    for kind, name in (("ConfigMap", "one"), ("ConfigMap", "two"), ("Service", "one")):
        metadata = {
            "name": name,
            "namespace": namespace,
            "labels": {"side": "left" if name == "one" else "right"},
        }
        spec = {"spec": {"ports": [{"port": 80}]}} if kind == "Service" else {}
        cluster.apply({"apiVersion": "v1", "kind": kind, "metadata": metadata, **spec})
    shown = json.loads(cluster.kubectl("-n", namespace, "get", *words, "-o", "json").stdout)
    found = objects(cluster, namespace, *words)
    for one in found if isinstance(found, list) else [found]:
        del one["metadata"]["managedFields"]
    assert found == (shown["items"] if shown["kind"] == "List" else shown)
    assert objects(cluster, namespace, "pod", "nobody") is None


# -- level 3: fake nodes


@pytest.mark.level(3)
def test_a_fake_pod_ends_when_and_as_it_is_told(cluster: Cluster, namespace: str) -> None:
    """A pod on a fake node runs as long as its annotation says, and ends with its index's exit code."""
    ends = {"fake.fljob.dev/runs-for": "3s", "fake.fljob.dev/exit-code-1": "64"}
    job = fake_job("toy", namespace, annotations=ends, completions=2)
    cluster.apply(job)
    done = cluster.kubectl(
        "wait", "--for=condition=Failed", "job/toy", "-n", namespace, "--timeout=60s", check=False
    )
    assert done.returncode == 0, cluster.kubectl("get", "pods,jobs", "-n", namespace, "-o", "yaml").stdout
    ended = {pod["index"]: pod for pod in endings(cluster, namespace)}
    assert {index: pod["code"] for index, pod in ended.items()} == {"0": 0, "1": 64}
    assert all(3 <= pod["seconds"] <= 30 for pod in ended.values())


@pytest.mark.level(3)
def test_a_fake_pod_without_an_end_runs_until_it_is_deleted(cluster: Cluster, namespace: str) -> None:
    """Deleting a Job in the foreground kills its fake pods, and both are gone."""
    cluster.apply(fake_job("toy", namespace, annotations={}, completions=1))
    cluster.kubectl("wait", "--for=jsonpath={.status.ready}=1", "job/toy", "-n", namespace, "--timeout=60s")
    cluster.kubectl("delete", "job", "toy", "-n", namespace, "--cascade=foreground", "--timeout=60s")
    assert cluster.kubectl("get", "pods,jobs", "-n", namespace, "-o", "name").stdout == ""


def fake_job(name: str, namespace: str, *, annotations: dict[str, str], completions: int) -> dict[str, Any]:
    """An Indexed Job whose pods live on fake nodes, on every level that has them."""
    pod = {**ON_FAKE_NODES, "restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "completionMode": "Indexed",
            "completions": completions,
            "parallelism": completions,
            "backoffLimitPerIndex": 0,
            "template": {"metadata": {"annotations": annotations}, "spec": pod},
        },
    }


def endings(cluster: Cluster, namespace: str) -> Iterator[dict[str, Any]]:
    """The index, the exit code and the seconds of each pod's main container."""
    for pod in json.loads(cluster.kubectl("get", "pods", "-n", namespace, "-o", "json").stdout)["items"]:
        ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        begin, end = (dt.datetime.fromisoformat(ended[when]) for when in ("startedAt", "finishedAt"))
        index = pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]
        yield {"index": index, "code": ended["exitCode"], "seconds": (end - begin).total_seconds()}
