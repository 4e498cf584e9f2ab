"""Level 4: real pods, their names, their volumes, and images built without a registry."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from harness.cluster import Cluster
from harness.fixtures import lacking
from harness.images import build
from harness.objects import objects
from harness.runtime import load
from harness.waiting import until
from tests.cluster.tenant import IMAGES

pytestmark = [pytest.mark.cluster, pytest.mark.level(4)]

Map = dict[str, Any]

IMAGE = "localhost/fljob-toy:test"
DOCKERFILE = """\
ARG BASE
FROM ${BASE}
RUN python3 -m venv /venv && /venv/bin/pip install --no-index --find-links /wheels toy
USER 65532:65532
ENTRYPOINT ["/venv/bin/python3"]
"""
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
CONTAINER: Map = {
    "name": "main",
    "image": IMAGE,
    "imagePullPolicy": "Never",
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    },
}
# Each host that is named answers in the end, or the program fails.
ASK = """\
import sys, time, urllib.request
for host in sys.argv[1:]:
    for attempt in range(120):
        try:
            print(host[:7], urllib.request.urlopen(f"http://{host}:8080/", timeout=5).status)
            break
        except OSError as error:
            print(error, file=sys.stderr) if attempt == 119 else time.sleep(0.5)
    else:
        sys.exit(1)
"""
POD: Map = {
    "restartPolicy": "Never",
    "automountServiceAccountToken": False,
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
}


def pod(name: str, program: str, **changes: Any) -> Map:
    """A pod that the profile `restricted` takes, running this Python program; changes go to its container."""
    container = {**CONTAINER, "args": ["-c", program], **changes}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {**POD, "containers": [container]},
    }


@pytest.fixture(scope="module")
def image(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with one wheel installed, built with no network but this cluster's."""
    if cluster.level < 4:
        pytest.skip("this test needs a cluster of level 4")
    folder = tmp_path_factory.mktemp("image")
    wheels = folder / "wheels"
    wheels.mkdir()
    write_wheel(wheels)
    dockerfile = folder / "Dockerfile"
    dockerfile.write_text(DOCKERFILE)
    load(build(dockerfile, folder, folder / "toy.tar", tag=IMAGE, volumes={wheels: "/wheels"}))
    return IMAGE


def write_wheel(folder: Path) -> None:
    """The smallest wheel: a module `toy` that knows its answer."""
    files = {
        "toy.py": "ANSWER = 42\n",
        "toy-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: toy\nVersion: 1\n",
        "toy-1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "toy-1.dist-info/RECORD": "toy.py,,\n",
    }
    with zipfile.ZipFile(folder / "toy-1-py3-none-any.whl", "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)


def ended(cluster: Cluster, namespace: str, name: str) -> tuple[str, str]:
    """The phase in which the pod ended, and its log."""

    def phase() -> str:
        return str(objects(cluster, namespace, "pod", name)["status"].get("phase"))

    until(lambda: phase() in {"Succeeded", "Failed"})
    log = cluster.kubectl("logs", name, "-n", namespace, check=False)
    described = (
        "" if log.returncode == 0 else cluster.kubectl("describe", "pod", name, "-n", namespace).stdout
    )
    return phase(), log.stdout + log.stderr + described


def create(cluster: Cluster, namespace: str, *objects: Map) -> None:
    cluster.apply(*({**one, "metadata": {**one["metadata"], "namespace": namespace}} for one in objects))


@pytest.mark.usefixtures("image")
def test_a_restricted_pod_runs(cluster: Cluster, namespace: str) -> None:
    """A pod without root, rights or a writable disk runs the image, and its log can be read."""
    cluster.kubectl("label", "namespace", namespace, RESTRICTED)
    program = (
        "import os, toy; print(os.getuid(), toy.ANSWER)\n"
        "try: open('/x', 'w')\n"
        "except OSError as error: print(error.strerror)\n"
    )
    create(cluster, namespace, pod("toy", program))
    assert ended(cluster, namespace, "toy") == ("Succeeded", "65532 42\nRead-only file system\n")


def test_a_pod_with_rights_is_refused(cluster: Cluster, namespace: str) -> None:
    """The profile `restricted` refuses a pod that may gain rights."""
    cluster.kubectl("label", "namespace", namespace, RESTRICTED)
    with pytest.raises(RuntimeError, match="violates PodSecurity"):
        create(cluster, namespace, pod("toy", "", securityContext={}))


@pytest.mark.usefixtures("image")
def test_an_exit_code_arrives(cluster: Cluster, namespace: str) -> None:
    """The exit code of a program is that of its container."""
    create(cluster, namespace, pod("toy", "raise SystemExit(64)"))
    assert ended(cluster, namespace, "toy")[0] == "Failed"
    code = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}"
    assert cluster.kubectl("get", "pod", "toy", "-n", namespace, "-o", code).stdout == "64"


@pytest.mark.usefixtures("image")
def test_the_pods_of_a_job_have_names(cluster: Cluster, namespace: str) -> None:
    """Pods of an Indexed Job find each other through a headless service, by name, and through a virtual address."""
    serve = (
        "import http.server, socket; print(socket.getfqdn())\n"
        "http.server.HTTPServer(('', 8080), http.server.SimpleHTTPRequestHandler).serve_forever()"
    )
    hosts = ("peers-0.peers", f"peers-1.peers.{namespace}.svc.cluster.local", "virtual")
    create(cluster, namespace, peers(serve), service("peers", clusterIP="None"), service("virtual"))
    create(cluster, namespace, pod("asks", ASK, args=["-c", ASK, *hosts]))
    assert ended(cluster, namespace, "asks") == ("Succeeded", "peers-0 200\npeers-1 200\nvirtual 200\n")


def peers(program: str) -> Map:
    """Two pods that run the program in /tmp, in a Job whose service is `peers`."""
    container = {**CONTAINER, "args": ["-c", program], "workingDir": "/tmp"}  # noqa: S108  # in the pod
    spec = {**POD, "subdomain": "peers", "containers": [container]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "peers"},
        "spec": {
            "completionMode": "Indexed",
            "completions": 2,
            "parallelism": 2,
            "template": {"metadata": {"labels": {"app": "peers"}}, "spec": spec},
        },
    }


def service(name: str, **spec: Any) -> Map:
    """A service at port 8080 of the pods labelled `peers`."""
    ports = [{"port": 8080}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": "peers"}, "ports": ports, **spec},
    }


@pytest.mark.usefixtures("image")
def test_a_claim_gets_a_volume(cluster: Cluster, namespace: str) -> None:
    """A claim of the default class is bound, keeps what one pod wrote for the next, and its folder goes with it."""
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    writes, reads = (
        pod(name, program, volumeMounts=[{"name": "data", "mountPath": "/data"}])
        for name, program in (
            ("writes", "open('/data/x', 'w').write('kept')"),
            ("reads", "print(open('/data/x').read())"),
        )
    )
    for one in (writes, reads):
        one["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    create(cluster, namespace, claim, writes)
    assert ended(cluster, namespace, "writes") == ("Succeeded", "")
    create(cluster, namespace, reads)
    assert ended(cluster, namespace, "reads") == ("Succeeded", "kept\n")
    words = ("get", "persistentvolumeclaim", "data", "-n", namespace, "-o", "jsonpath={.spec.volumeName}")
    folder = cluster.folder / "volumes" / cluster.kubectl(*words).stdout
    assert (folder / "x").read_text() == "kept"
    cluster.kubectl("delete", "pod", "writes", "reads", "-n", namespace)
    cluster.kubectl("delete", "persistentvolumeclaim", "data", "-n", namespace)
    assert until(lambda: not folder.exists())


def test_the_control_plane_is_small() -> None:
    """Beyond its base the image of operator, server and scheduler has under 150 MB of files, and no framework."""
    image = IMAGES / "control.tar"
    if not image.is_file():
        lacking(f"there is no {image}: make cluster-images builds it")
    with tarfile.open(image) as archive:
        *_, newest = json.loads(_text(archive, "manifest.json"))[0]["Layers"]
        with tarfile.open(fileobj=archive.extractfile(newest)) as layer:
            files = {member.name: member.size for member in layer}
    assert sum(files.values()) < 150e6
    packages = {name.partition("/site-packages/")[2].partition("/")[0] for name in files}
    assert {"fl_operator", "fl_server", "numpy"} <= packages
    assert not packages & {"paddle", "torch", "sklearn", "scipy", "jax"}


def _text(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()
