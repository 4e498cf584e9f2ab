"""Volumes for claims, each a folder of the node: what a storage provider does for a real cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.cluster import Cluster

PROVISIONER = "fljob.dev/folder"
CLASS = "folder"
ANNOTATION = "pv.kubernetes.io/provisioned-by"

Map = dict[str, Any]


def start_volumes(cluster: Cluster) -> None:
    """Make claims of the default storage class come true from now on, in threads that end with the process."""
    metadata = {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    cluster.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": metadata,
            "provisioner": PROVISIONER,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "Immediate",
        }
    )
    folder = cluster.folder / "volumes"
    folder.mkdir()
    _follow(cluster, "persistentvolumeclaims", lambda claim: _provision(cluster, folder, claim))
    _follow(cluster, "persistentvolumes", lambda volume: _reclaim(cluster, volume))


def volume_for(claim: Map, folder: Path) -> Map:
    """The volume, a folder of its own below `folder`, for this claim alone."""
    metadata, spec = claim["metadata"], claim["spec"]
    name = f"pvc-{metadata['uid']}"
    reference = {key: metadata[key] for key in ("name", "namespace", "uid")}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {ANNOTATION: PROVISIONER}},
        "spec": {
            "accessModes": spec["accessModes"],
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **reference},
            "hostPath": {"path": str(folder / name), "type": "Directory"},
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": CLASS,
        },
    }


def _provision(cluster: Cluster, folder: Path, claim: Map) -> None:
    spec = claim["spec"]
    if spec.get("storageClassName") != CLASS or "volumeName" in spec:
        return
    volume = volume_for(claim, folder)
    place = Path(volume["spec"]["hostPath"]["path"])
    place.mkdir(exist_ok=True)
    place.chmod(0o777)  # a pod's fsGroup changes nothing about a folder of the node
    cluster.apply(volume)


def _reclaim(cluster: Cluster, volume: Map) -> None:
    ours = volume["metadata"].get("annotations", {}).get(ANNOTATION) == PROVISIONER
    if ours and volume.get("status", {}).get("phase") == "Released":
        cluster.kubectl("delete", "persistentvolume", volume["metadata"]["name"], check=False)
        shutil.rmtree(volume["spec"]["hostPath"]["path"], ignore_errors=True)


def _follow(cluster: Cluster, resource: str, act: Callable[[Map], None]) -> None:
    def follow() -> None:
        while True:  # a watch ends by itself after an hour or so
            for event in _events(cluster, resource):
                if event["type"] in {"ADDED", "MODIFIED"}:
                    act(event["object"])

    threading.Thread(target=follow, name=f"volumes-{resource}", daemon=True).start()


def _events(cluster: Cluster, resource: str) -> Iterator[Map]:
    """What is there, then every change, until the API server ends the watch."""
    path = f"/api/v1/{resource}?watch=true"
    command = cluster.kubectl_command("get", "--raw", path)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            yield json.loads(line)
