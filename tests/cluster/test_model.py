"""`fl-submit model` on a cluster with real pods: the storage is read by a pod that is gone afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from fl_core.plan import canonical
from fl_core.weights import digest
from fl_operator.attempt import Attempt
from harness.images import BASE, base
from harness.runtime import load
from job_generator.settings import Settings

if TYPE_CHECKING:
    from harness.cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(400)]

MANIFESTS = Path(__file__).parents[2] / "manifests"
USER = 4321
"""Whom this cluster's pods run as, instead of the usual user."""
ARRAYS = {"weight": np.arange(600_000, dtype=np.float32), "bias": np.ones(3, dtype=np.float32)}


def ask(cluster: Cluster, namespace: str, *words: str) -> Any:
    return json.loads(cluster.kubectl("get", *words, "-n", namespace, "-o", "json").stdout)


def stored(cluster: Cluster, namespace: str) -> None:
    """A job that is complete, and its storage with a model in it that only its server's user may read."""
    cluster.kubectl("apply", "--server-side", "-f", str(MANIFESTS / "crd.yaml"))
    cluster.kubectl("wait", "--for=condition=Established", "crd/fljobs.fljob.dev", "--timeout=30s")
    program = {"entrypoint": "program:task", "framework": "numpy"}
    metadata = {"name": "digits", "namespace": namespace}
    spec = {"program": program, "rounds": 3, "workers": {"replicas": 2}}
    cluster.apply({"apiVersion": "fljob.dev/v1alpha1", "kind": "FLJob", "metadata": metadata, "spec": spec})
    ended = {"type": "Complete", "status": "True", "reason": "RoundsDone", "message": ""}
    ended["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    status = {
        "attempt": 1,
        "images": {"server": BASE},
        "display": {"state": "Complete"},
        "conditions": [ended],
    }
    body = json.dumps({"status": status})
    cluster.kubectl(
        "patch", "fljob", "digits", "-n", namespace, "--subresource=status", "--type=merge", "-p", body
    )
    job = ask(cluster, namespace, "fljob", "digits")
    cluster.apply(Attempt.render(job, Settings(user=USER), number=1).object(job))
    uid = job["metadata"]["uid"]
    claim = f"digits-storage-{uid}"
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    metadata = {"name": claim, "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": wanted})
    models = volume(cluster, namespace, claim) / f"digits-{uid}" / "models"
    models.mkdir(parents=True)
    facts = {"round": 3, "digest": digest(ARRAYS)}
    sealed = {"fljob": canonical({"arrays": list(ARRAYS), "facts": facts})}
    save_file(ARRAYS, models / "last.safetensors", sealed)
    for path, mode in ((models / "last.safetensors", 0o600), (models, 0o700), (models.parent, 0o700)):
        os.chown(path, USER, USER)
        path.chmod(mode)


def volume(cluster: Cluster, namespace: str, claim: str) -> Path:
    """The folder that a claim is given; waits for it."""
    for _ in range(60):
        name = ask(cluster, namespace, "pvc", claim)["spec"].get("volumeName")
        if name:
            return Path(ask(cluster, namespace, "pv", name)["spec"]["hostPath"]["path"])
        time.sleep(0.5)
    raise TimeoutError(claim)


def test_a_model_comes_whole_and_the_reader_goes(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    """The arrays are those that only the server's user may read, in a namespace of restricted pods; no pod stays."""
    load(base())
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    stored(cluster, namespace)
    target = tmp_path / "digits.npz"
    words = ["model", "digits", "--kubeconfig", str(cluster.kubeconfig), "-n", namespace, "-o", str(target)]
    done = subprocess.run(
        [sys.executable, "-m", "job_generator.cli", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    with np.load(target) as found:
        assert {name: found[name].tobytes() for name in found} == {
            name: array.tobytes() for name, array in ARRAYS.items()
        }
    cluster.kubectl("wait", "--for=delete", "pods", "--all", "-n", namespace, "--timeout=30s")
