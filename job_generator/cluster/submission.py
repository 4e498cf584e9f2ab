"""A job and its program on their way to a cluster: what is applied, in which order, and who owns what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from heapq import nlargest
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from fl_core.bundle import bundle
from fl_core.errors import JobError, ProgramError, SpecError
from job_generator.cluster.connection import AbsentError, Cluster, Object, Request
from job_generator.cluster.jobs import apply, core, display, exit_code, fljobs
from job_generator.deployment import Source
from job_generator.problems import dotted
from job_generator.program import ENTRYPOINT, sealed
from job_generator.spec import API_VERSION, KIND, FLJob

MOST_PROGRAM: Final = 1 << 20
"""Bytes of a ConfigMap's data that the API server takes."""
MOST_NAMED: Final = 3
"""How many of the largest files are named."""
KEY: Final = re.compile(r"[-._a-zA-Z0-9]{1,253}")
ELSEWHERE: Final = (
    "put the program into an image (spec.program.source.image) or on a volume "
    "(spec.program.source.persistentVolumeClaim)"
)


@dataclass(frozen=True, slots=True)
class Submission:
    """The FLJob as it is applied, and its program's ConfigMap where the program lies on this machine."""

    job: Object
    program: Object | None = None

    @property
    def created(self) -> list[str]:
        """The objects, as kubectl names them."""
        packed = [f"configmap/{self.program['metadata']['name']}"] if self.program else []
        return [*packed, f"fljob/{self.job['metadata']['name']}"]


def prepare(job: FLJob, folder: Path, *, namespace: str) -> Submission:
    """Bind the job to its program and pack that, unless the job names another source."""
    if (given := job.spec.initial_model) is not None and given.uri is not None:
        packed = f"{job.metadata.name}-model"
        raise SpecError(
            f"spec.initialModel.uri: a cluster cannot read {given.uri}; put it on a volume "
            f"(spec.initialModel.persistentVolumeClaim), or, if it is smaller than a mebibyte, into a ConfigMap: "
            f"kubectl create configmap {packed} --from-file={given.uri}, and name it in spec.initialModel.configMap"
        )
    bound = sealed(job, folder)
    program = bound.spec.program
    if program.source is not None or program.sha256 is None:
        return Submission(_document(bound, namespace))
    files = bundle(folder, program.entrypoint.partition(":")[0])
    _check(files)
    name = f"{job.metadata.name}-program-{program.sha256[:10]}"
    whole = program.model_copy(update={"source": _source(name, files)})
    placed = bound.model_copy(update={"spec": bound.spec.model_copy(update={"program": whole})})
    return Submission(_document(placed, namespace), _packed(job, files, name=name, namespace=namespace))


def submit(cluster: Cluster, what: Submission, *, dry_run: bool = False) -> Object:
    """Apply the job, as soon as the program that it needs is there; the job as it is stored.

    The API server is asked first what it would say of the job, so that one that it refuses leaves nothing behind and
    takes no program from the job that is there.
    """
    name = what.job["metadata"]["name"]
    path, before = fljobs(cluster.namespace, name), _before(cluster, name)
    would_be = apply(cluster, path, what.job, dry_run=True)
    _keep(cluster, what.program, of=before, dry_run=dry_run)
    if dry_run:
        return would_be
    stored = apply(cluster, path, what.job)
    if before is None or before["metadata"]["uid"] != stored["metadata"]["uid"]:
        _keep(cluster, what.program, of=stored)
    return stored


def _keep(cluster: Cluster, program: Object | None, *, of: Object | None, dry_run: bool = False) -> None:
    """Apply the program's ConfigMap, where there is one, as the property of this job, or of nobody yet."""
    if program is None:
        return
    path = core(cluster.namespace, "configmaps", program["metadata"]["name"])
    owned = {"ownerReferences": [_owner(of)]} if of is not None else {}
    apply(cluster, path, {**program, "metadata": {**program["metadata"], **owned}}, dry_run=dry_run)


def _before(cluster: Cluster, name: str) -> Object | None:
    """The job that is there; refuses a name under which one has ended or is going: nothing would ever be done."""
    try:
        there = cluster.send(Request("GET", fljobs(cluster.namespace, name)))
    except AbsentError:
        return None
    if there["metadata"].get("deletionTimestamp"):
        raise JobError(f"FLJob {name} is being deleted; submit again when it is gone")
    if exit_code(there) is not None and display(there)["state"] in {"Complete", "Failed"}:
        raise JobError(
            f"FLJob {name} is {display(there)['state']} and does not start again; give the job another "
            f"name, or delete that one first: fl-submit delete {name}"
        )
    return there


def _packed(job: FLJob, files: Mapping[str, Path], *, name: str, namespace: str) -> Object:
    """The program as a ConfigMap that nobody can change."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/name": "fljob", "app.kubernetes.io/instance": job.metadata.name},
        },
        "immutable": True,
        "data": {_key(file): _text(path) for file, path in files.items()},
    }


def _source(name: str, files: Mapping[str, Path]) -> Source:
    """Where the workers find the files; paths are said only where a key is not the file's name."""
    items = [{"key": _key(file), "path": file} for file in files]
    flat = all(item["key"] == item["path"] for item in items)
    try:
        return Source.model_validate({"configMap": {"name": name, **({} if flat else {"items": items})}})
    except ValidationError as error:
        why = error.errors()[0]["msg"]
        raise SpecError(
            f"{dotted(ENTRYPOINT)}: a ConfigMap's volume cannot hold these {len(files)} files ({why}); use fewer, "
            f"with plain names, or {ELSEWHERE}"
        ) from error


def _key(file: str) -> str:
    """The key of a file, with dots for slashes, as Python calls modules."""
    return file.replace("/", ".")


def _check(files: Mapping[str, Path]) -> None:
    """Refuse what a ConfigMap cannot hold, before anything is sent."""
    keys: dict[str, str] = {}
    for file in files:
        if KEY.fullmatch(_key(file)) is None:
            raise SpecError(
                f"{dotted(ENTRYPOINT)}: a ConfigMap holds no file called {file!r}; call it by letters, digits, - _ "
                f"and . alone, or {ELSEWHERE}"
            )
        if (other := keys.setdefault(_key(file), file)) != file:
            raise SpecError(
                f"{dotted(ENTRYPOINT)}: {other} and {file} would have the same key in a ConfigMap, {_key(file)}; "
                f"rename one of them, or {ELSEWHERE}"
            )
    sizes = {file: path.stat().st_size for file, path in files.items()}
    if (size := sum(sizes.values())) > MOST_PROGRAM:
        largest = nlargest(MOST_NAMED, sizes, key=lambda file: sizes[file])
        told = ", ".join(f"{file} with {sizes[file]:,}" for file in largest)
        raise SpecError(
            f"{dotted(ENTRYPOINT)}: the program has {size:,} bytes in {len(files)} files, more than the "
            f"{MOST_PROGRAM:,} that a ConfigMap holds (the largest: {told}); make it smaller, or {ELSEWHERE}"
        )


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ProgramError(f"{path} is no UTF-8 text, so a ConfigMap cannot hold it: {error}") from error


def _document(job: FLJob, namespace: str) -> Object:
    """What its author wrote, without defaults: those are the API server's to fill in."""
    whole = job.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    metadata = {key: value for key, value in whole["metadata"].items() if key != "uid"}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {**metadata, "namespace": namespace},
        "spec": whole["spec"],
    }


def namespace_of(job: FLJob, *, asked: str | None, usual: str) -> str:
    """The job's own namespace when its author named one, else the one that was asked for, else the context's."""
    if "namespace" not in job.metadata.model_fields_set:
        return asked or usual
    own = job.metadata.namespace
    if asked not in {None, own}:
        raise SpecError(f"metadata.namespace is {own}, and --namespace is {asked}; leave one of them out")
    return own


def _owner(job: Object) -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": job["metadata"]["name"],
        "uid": job["metadata"]["uid"],
    }
