"""FLJobs as the API server keeps them: where they are, what their status says, and what belongs to them."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from fl_core.errors import JobError, ProgramError, ShortfallError, SpecError, UnusableError
from fl_core.errors import MismatchError as Mismatch
from fl_core.plan import Job
from job_generator import names
from job_generator.cluster.connection import (
    APPLY,
    MANAGER,
    MERGE,
    AbsentError,
    Cluster,
    Object,
    Request,
)
from job_generator.spec import API_VERSION, FLJob

INVALID: Final = "InvalidSpec"
EXIT_CODES: Final = {
    INVALID: SpecError.exit_code,
    "ProgramError": ProgramError.exit_code,
    "Mismatch": Mismatch.exit_code,
    "TooFewWorkers": ShortfallError.exit_code,
    "QuorumLost": ShortfallError.exit_code,
    "StorageUnusable": UnusableError.exit_code,
}
"""What a failed job's reason means as an exit code; any other is that of a JobError."""


def fljobs(namespace: str | None, name: str = "") -> str:
    """The path of FLJobs; of all namespaces without one."""
    place = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{API_VERSION}{place}/fljobs{f'/{name}' if name else ''}"


def typed(job: Object, *metadata: str) -> FLJob:
    """A job of the API server as the author's types have it, with these of its metadata and its name.

    Raises JobError for one that an operator of another version has taken.
    """
    about = {key: job["metadata"][key] for key in ("name", *metadata)}
    shown = {key: job[key] for key in ("apiVersion", "kind", "spec")}
    try:
        return FLJob.model_validate({**shown, "metadata": about})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise JobError(
            f"{about['name']} has what this fl-submit does not know: {field}: {first['msg']}; "
            "use the fl-submit of the operator's version"
        ) from error


def core(namespace: str, plural: str, name: str = "") -> str:
    """The path of an object of the core API."""
    return f"/api/v1/namespaces/{namespace}/{plural}{f'/{name}' if name else ''}"


def read(cluster: Cluster, name: str) -> Object:
    """The FLJob of this name; one sentence where there is none."""
    try:
        return cluster.send(Request("GET", fljobs(cluster.namespace, name)))
    except AbsentError as error:
        if "not found" not in str(error):
            raise
        raise AbsentError(
            f"there is no FLJob {name} in namespace {cluster.namespace}; "
            f"`fl-submit list -n {cluster.namespace}` shows those that are, and a run's folder is given with a slash"
        ) from error


def apply(cluster: Cluster, path: str, body: Object, *, dry_run: bool = False) -> Object:
    """Apply an object on the server's side; unknown fields are refused, and the file wins over other hands."""
    query = {"fieldManager": MANAGER, "force": "true", "fieldValidation": "Strict", **_tried(dry_run)}
    return cluster.send(Request("PATCH", path, query, body, APPLY))


def change(cluster: Cluster, path: str, body: Object, *, dry_run: bool = False) -> Object:
    """Change some fields of an object."""
    return cluster.send(Request("PATCH", path, {"fieldManager": MANAGER, **_tried(dry_run)}, body, MERGE))


def remove(cluster: Cluster, path: str, *, policy: str = "Foreground", dry_run: bool = False) -> None:
    """Delete an object, its dependants first."""
    cluster.send(Request("DELETE", path, {"propagationPolicy": policy, **_tried(dry_run)}))


def _tried(dry_run: bool) -> dict[str, str]:  # noqa: FBT001 - a word of a query
    return {"dryRun": "All"} if dry_run else {}


def events(cluster: Cluster, job: Object) -> list[Object]:
    """What was noted about a job, oldest first."""
    about = f"involvedObject.uid={job['metadata']['uid']}"
    found = cluster.send(
        Request("GET", core(job["metadata"]["namespace"], "events"), {"fieldSelector": about})
    )
    return sorted(found["items"], key=moment)


def moment(event: Object) -> str:
    """When an event was last seen."""
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")


def pods(cluster: Cluster, name: str) -> list[Object]:
    """The pods of a job."""
    query = {"labelSelector": f"{names.JOB}={name}"}
    found: list[Object] = cluster.send(Request("GET", core(cluster.namespace, "pods"), query))["items"]
    return found


# -- what a status says


def identity(job: Object) -> Job:
    """The job as the names of its children know it."""
    metadata = job["metadata"]
    return Job(name=metadata["name"], uid=metadata["uid"], namespace=metadata["namespace"])


def conditions(job: Object) -> dict[str, Object]:
    """The conditions by their type."""
    return {one["type"]: one for one in job.get("status", {}).get("conditions", ())}


def holds(job: Object, kind: str) -> bool:
    """Whether a condition is True."""
    return conditions(job).get(kind, {}).get("status") == "True"


def display(job: Object) -> dict[str, str]:
    """The texts of the columns; a job that no operator has looked at is New."""
    return {"state": "New", **(job.get("status", {}).get("display") or {})}


def training(job: Object) -> Object:
    """How far the training is."""
    told = job.get("status", {}).get("training") or {}
    return {"round": 0, "rounds": job["spec"]["rounds"], **told}


def exit_code(job: Object) -> int | None:
    """What a process that waits for this job ends with; None while the job goes on."""
    if holds(job, "Complete"):
        return 0
    failed = conditions(job).get("Failed", {})
    if failed.get("status") == "True":
        return EXIT_CODES.get(str(failed["reason"]), JobError.exit_code)
    compiled = conditions(job).get("Compiled", {})
    # What else keeps a job from being compiled may pass, or leaves what runs as it is.
    refused = (compiled.get("status"), compiled.get("reason")) == ("False", INVALID)
    return EXIT_CODES[INVALID] if refused else None


def store(job: Object) -> Object | None:
    """What the job says of the store of objects that holds its storage; None where that is a volume."""
    storage: Object = job["spec"].get("server", {}).get("storage", {})
    return storage if storage.get("uri") else None


def claim(job: Object) -> str:
    """The name of the claim that holds the job's storage."""
    storage = job["spec"].get("server", {}).get("storage", {})
    return str(storage.get("existingClaim") or names.claim(identity(job)))
