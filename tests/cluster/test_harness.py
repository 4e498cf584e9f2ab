"""The harness itself: each level does what it is there for."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cluster import Cluster
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
