"""A job's stored model on this machine: a pod that mounts the claim read-only, and the API server's port-forward.

It runs under the user's own rights, executes nothing in other pods, and is removed however this ends.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from fl_core.errors import StorageError, UnavailableError
from fl_core.models import CHECKPOINT, INDEX, checkpoint_name
from fl_core.record import LINES, SIGNATURE
from job_generator.cluster.connection import AbsentError, Connection, Object, RefusedError, Request
from job_generator.cluster.frozen import run_as, server_spec
from job_generator.cluster.jobs import claim, core, holds, identity, remove, store
from job_generator.containers import CONFINED, restoring
from job_generator.names import selector

PORT: Final = 8080
MOUNT: Final = "/var/lib/fljob"
START_SECONDS: Final = 120.0
"""For a pod to start, beside the time in which it copies."""
FOLDER: Final = "file://"
LIFE_SECONDS: Final = 3600
"""The pod ends by itself after this time, should nobody be left to remove it."""
LAST: Final = "models/last.safetensors"
BEST: Final = "models/best.safetensors"
RECORD: Final = (SIGNATURE, LINES)
"""In the order in which they are read: a job that ends meanwhile has signed for lines that are there."""
NEWEST: Final = "checkpoints/"
"""What a copy of the newest checkpoint is asked for by."""
PIECE: Final = 1 << 20
LISTED: Final = re.compile(rf'href="{CHECKPOINT}"')
INDEXED: Final = re.compile(rf"^checkpoints/{CHECKPOINT}$", re.MULTILINE)
RESTRICTED: Final = {
    "runAsNonRoot": True,
    "runAsUser": 65_532,
    "runAsGroup": 65_532,
    "fsGroup": 65_532,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""Who the pod is where no attempt says it: as the operator's usual server."""
NEVER: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError"}
)


def fetch(cluster: Connection, job: Object, folder: Path, *, best: bool, say: Callable[[str], None]) -> None:
    """Copy what the server keeps of the model into a folder that looks like a run's storage."""
    only = (BEST,) if best else (LAST,) if holds(job, "Complete") else (LAST, NEWEST)
    with _pod(cluster, job, say, only=only) as name:
        store = _Store(cluster, name, folder)
        if best:
            store.copy(BEST)
            return
        final = store.copy(LAST)
        if not final or not holds(job, "Complete"):
            for number in store.checkpoints()[-1:]:
                store.copy(checkpoint(number))


def fetch_record(cluster: Connection, job: Object, folder: Path, *, say: Callable[[str], None]) -> None:
    """Copy a job's record and its signature into a folder that looks like a run's storage."""
    with _pod(cluster, job, say, only=RECORD) as name:
        store = _Store(cluster, name, folder)
        for one in RECORD:
            store.copy(one)


def fetch_digest(
    cluster: Connection, job: Object, number: int, *, say: Callable[[str], None]
) -> tuple[str | None, list[int]]:
    """The SHA-256 of the checkpoint of this round, None where there is none, and the rounds that have one."""
    with _pod(cluster, job, say, only=(checkpoint(number),)) as name:
        store = _Store(cluster, name, Path())
        return store.digest(checkpoint(number)), store.checkpoints()


def checkpoint(number: int) -> str:
    """The checkpoint of this round, from the job's folder."""
    return f"checkpoints/{checkpoint_name(number)}"


def reader(job: Object, name: str, *, only: Sequence[str], server: Object) -> Object:
    """The pod, run as this `server` of its attempt is; it serves its own loopback alone.

    Without one it passes Pod Security `restricted`. Out of a store of objects it copies these files `only`, and no
    model for a record.
    """
    metadata, images = job["metadata"], job.get("status", {}).get("images") or {}
    if "server" not in images:
        raise RefusedError(f"{metadata['name']} never had a server, so it has no model")
    folder, kept = f"{MOUNT}/{metadata['name']}-{metadata['uid']}", store(job)
    if kept and kept["uri"].startswith(FOLDER):
        raise RefusedError(
            f"{metadata['name']} keeps its storage in {kept['uri']}, a folder that its server's template mounts, and "
            "no pod of ours does; where it is mounted: python -m fl_server.restore --store "
            f"{kept['uri']} --storage FOLDER"
        )
    restore = {"initContainers": [_restoring(job, folder, images["server"], only)]} if kept else {}
    volume = {"emptyDir": {}} if kept else {"persistentVolumeClaim": {"claimName": claim(job)}}
    spec = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": LIFE_SECONDS,
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": RESTRICTED,
        **restore,
        "containers": [_serving(images["server"], folder)],
        # On the claim itself `readOnly` would ask for a mode of access that it may not have.
        "volumes": [{"name": "storage", **volume}],
    }
    labels = {"app.kubernetes.io/name": "fljob", "app.kubernetes.io/component": "reader"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": metadata["namespace"], "labels": labels},
        "spec": _beside(job, run_as(server, spec)),
    }


def _beside(job: Object, spec: Object) -> Object:
    """The pod where the job's server runs, if it does: a disk is on one node at a time."""
    term = {"labelSelector": selector(identity(job), "server"), "topologyKey": "kubernetes.io/hostname"}
    near = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}
    return {**spec, "affinity": {**spec.get("affinity", {}), "podAffinity": near}}


def _serving(image: str, folder: str) -> Object:
    serve = ["python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", folder, str(PORT)]
    return {
        "name": "reader",
        "image": image,
        "command": serve,
        "securityContext": CONFINED,
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "volumeMounts": [{"name": "storage", "mountPath": MOUNT, "readOnly": True}],
    }


def _restoring(job: Object, folder: str, image: str, only: Sequence[str]) -> Object:
    mount, kept = {"name": "storage", "mountPath": MOUNT}, store(job) or {}
    uid, secret = job["metadata"]["uid"], kept.get("secretName")
    return restoring(image, kept["uri"], secret=secret, folder=folder, mount=mount, only=only, job=uid)


@contextmanager
def _pod(
    cluster: Connection, job: Object, say: Callable[[str], None], *, only: Sequence[str]
) -> Iterator[str]:
    """The name of a reader that runs; it is gone when this is left, also by Ctrl-C."""
    name = f"{job['metadata']['name']}-reader-{secrets.token_hex(3)}"
    path = core(cluster.namespace, "pods", name)
    try:
        pod = reader(job, name, only=only, server=server_spec(cluster, job))
        cluster.send(Request("POST", core(cluster.namespace, "pods"), body=pod))
        say(f"pod/{name} reads the storage of {job['metadata']['name']} ...")
        _await(cluster, path, name)
        yield name
    finally:
        with suppress(AbsentError):
            remove(cluster, path, policy="Background")


def _await(cluster: Connection, path: str, name: str) -> None:
    end = time.monotonic() + START_SECONDS
    why = "it was not started"
    while time.monotonic() < end:
        status = cluster.send(Request("GET", path)).get("status", {})
        if status.get("phase") == "Running":
            return
        if any("running" in one.get("state", {}) for one in status.get("initContainerStatuses", ())):
            end, why = time.monotonic() + START_SECONDS, "it was not started after it had copied"
        why = _obstacle(status, name, before=why)
        if status.get("phase") == "Failed":
            raise RefusedError(f"pod {name} has ended at once: {status.get('message', why)}")
        time.sleep(0.5)
    raise UnavailableError(f"pod {name} does not run after {START_SECONDS:.0f} s: {why}")


def _obstacle(status: Object, name: str, *, before: str) -> str:
    """Why a pod does not run yet, as far as that is known; RefusedError where it never will."""
    why = before
    for one in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        if ended := one.get("state", {}).get("terminated"):
            why = str(ended.get("message") or why).strip()
        waiting = one.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in {None, "PodInitializing"}:
            continue
        why = f"{waiting['reason']} {waiting.get('message', '')}".strip()
        if waiting["reason"] in NEVER:
            raise RefusedError(f"pod {name} does not start: {why}")
    for one in status.get("conditions", ()):
        if one["type"] == "PodScheduled" and one["status"] == "False":
            why = str(one.get("message", "no node takes it"))
    return why


@dataclass(frozen=True, slots=True)
class _Store:
    """The job's storage, through the reader."""

    cluster: Connection
    pod: str
    folder: Path

    def copy(self, name: str) -> bool:
        """Copy one file to its place; False where it is not there."""
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._open(name) as answer:
            if answer is None:
                return False
            with target.open("wb") as file:
                shutil.copyfileobj(answer, file)
        size = answer.headers.get("Content-Length")
        if size is not None and target.stat().st_size != int(size):
            raise StorageError(f"{name} broke off after {target.stat().st_size} of {size} bytes; try again")
        return True

    def digest(self, name: str) -> str | None:
        """The SHA-256 of a file, none of which is kept; None where it is not there."""
        found = hashlib.sha256()
        with self._open(name) as answer:
            if answer is None:
                return None
            while part := answer.read(PIECE):
                found.update(part)
        if answer.length:
            raise StorageError(f"{name} broke off {answer.length} bytes before its end; try again")
        return found.hexdigest()

    def checkpoints(self) -> list[int]:
        """The rounds whose checkpoints are kept, in order, as the reader's page shows them."""
        with self._open(INDEX) as answer:
            if answer is not None:
                return sorted(int(number) for number in INDEXED.findall(answer.read().decode()))
        with self._open("checkpoints/") as answer:
            listed = answer.read().decode() if answer is not None else ""
        return sorted(int(number) for number in LISTED.findall(listed))

    @contextmanager
    def _open(self, name: str) -> Iterator[Any]:
        connection = http.client.HTTPConnection("127.0.0.1", PORT)
        connection.sock = _forwarded(self.cluster, self.pod)
        try:
            connection.request("GET", f"/{quote(name)}", headers={"Connection": "close"})
            answer = connection.getresponse()
            if answer.status == HTTPStatus.NOT_FOUND:
                yield None
            elif answer.status == HTTPStatus.OK:
                yield answer
            else:
                raise StorageError(f"{name} cannot be read: {answer.status} {answer.reason}")
        except (http.client.HTTPException, OSError) as error:
            raise UnavailableError(f"reading {name} broke off: {type(error).__name__}: {error}") from error
        finally:
            connection.close()


def _forwarded(cluster: Connection, pod: str) -> Any:  # noqa: ANN401 - a socket
    """A connection to the reader; its server may take a moment to listen."""
    from kubernetes import client
    from kubernetes.stream import portforward

    api = client.CoreV1Api(client.ApiClient(cluster.configuration))
    end = time.monotonic() + 15
    while True:
        try:
            forward = portforward(
                api.connect_get_namespaced_pod_portforward, pod, cluster.namespace, ports=str(PORT)
            )
            time.sleep(0.3)
            if forward.error(PORT) is None:
                return forward.socket(PORT)
            why = str(forward.error(PORT))
        except client.ApiException as error:
            why = f"{error.status} {error.reason}"
        if time.monotonic() > end:
            raise UnavailableError(f"no connection to pod {pod} through the API server: {why}")
        time.sleep(0.5)
