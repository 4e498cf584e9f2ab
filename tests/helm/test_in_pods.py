"""The chart where pods really run: two replicas, one leader, and `helm test`."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "fljob"
IMAGES = ROOT / "dist" / "images"
SPACE = "fljob-chart"
SETTINGS = ("--set", "image.pullPolicy=Never", "--set", "fullnameOverride=chart-operator")

Helm = Callable[..., str]


@pytest.fixture(scope="module")
def release(cluster: Any, helm: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Helm]:
    """The chart in a namespace that allows restricted pods only, and helm to ask of it."""
    from harness.runtime import load  # noqa: PLC0415 - reachable where conftest.py has been read

    for archive in (IMAGES / "control.tar", IMAGES / "numpy.tar"):
        if not archive.exists():
            pytest.skip(f"there is no {archive.name} in dist/images: make cluster-images builds it")
        load(archive)
    home = tmp_path_factory.mktemp("helm")
    own = {f"HELM_{name}_HOME": str(home) for name in ("CACHE", "CONFIG", "DATA")}

    def call(*words: str) -> str:
        command = [helm, "--kubeconfig", str(cluster.kubeconfig), "--namespace", SPACE, *words]
        done = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, check=False)
        pods = cluster.kubectl("-n", SPACE, "get", "pods,events,fljobs", check=False).stdout
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{pods}"
        return done.stdout + done.stderr

    cluster.kubectl("create", "namespace", SPACE)
    cluster.kubectl("label", "namespace", SPACE, "pod-security.kubernetes.io/enforce=restricted")
    watched = ("--set", f"watchNamespaces={{{SPACE}}}", "--set", "rbac.aggregate=false")
    call(
        "install", "fljob", str(CHART), *SETTINGS, *watched, "--take-ownership", "--wait", "--timeout", "180s"
    )
    yield call
    call("uninstall", "fljob")


def test_both_replicas_are_ready_and_one_leads(cluster: Any, release: Helm) -> None:  # noqa: ARG001
    """Two operators are ready, with a read-only root file system and few rights, and one of them holds the Lease."""

    def ask(*words: str) -> Any:
        return json.loads(cluster.kubectl("-n", SPACE, "get", *words, "-o", "json").stdout)

    pods = ask("pods", "-l", "app.kubernetes.io/component=operator")["items"]
    assert [pod["status"]["containerStatuses"][0]["ready"] for pod in pods] == [True, True]
    assert [pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods] == [0, 0]
    holder = ask("lease", "chart-operator")["spec"]["holderIdentity"]
    assert holder.partition("_")[0] in {pod["metadata"]["name"] for pod in pods}


def test_helm_test_sees_a_job_to_its_end(cluster: Any, release: Helm) -> None:
    """`helm test` trains a job of two workers to its end, tells of it, removes it, and works a second time."""
    said = release("test", "fljob", "--logs", "--timeout", "280s")
    assert re.search(r"state=Complete .*round=3/3", said), said
    assert cluster.kubectl("-n", SPACE, "get", "fljobs", "-o", "name").stdout == ""
    release("test", "fljob", "--timeout", "280s")
