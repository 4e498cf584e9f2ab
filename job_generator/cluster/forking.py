"""A fork of a job on a cluster: a new FLJob whose server reads a checkpoint from where its parent keeps it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fl_core.errors import JobError
from job_generator.amend import fork_of, not_kept
from job_generator.cluster.connection import Connection, Object
from job_generator.cluster.jobs import claim, store
from job_generator.cluster.reader import checkpoint, fetch_digest
from job_generator.compiler import compile_job
from job_generator.spec import FLJob, Server


def forked(parent: Object, *, name: str, round: int, changes: Sequence[str]) -> FLJob:
    """The new job with its parent's labels, as its author would have written it; refuses what cannot be.

    Whether the checkpoint fits the program, its server finds when it starts.
    """
    metadata = parent["metadata"]
    kept = {key: metadata[key] for key in ("name", "namespace", "labels") if key in metadata}
    before = {
        "apiVersion": parent["apiVersion"],
        "kind": parent["kind"],
        "metadata": kept,
        "spec": {**parent["spec"], "suspend": False},
    }
    origin = {**_place(parent, checkpoint(round)), "round": round}
    job = fork_of(before, changes, name=name, origin=origin)
    compile_job(job)
    return job


def pinned(cluster: Connection, parent: Object, job: FLJob, *, say: Callable[[str], None]) -> FLJob:
    """The new job with the digest of the checkpoint that its parent keeps now; JobError where there is none.

    A pod reads it there: it is hashed on its way through the API server and not kept.
    """
    given = job.spec.initial_model
    if given is None or given.round is None:
        raise ValueError(f"{job.metadata.name} is no fork")
    digest, there = fetch_digest(cluster, parent, given.round, say=say)
    if digest is None:
        kept = Server.model_validate(parent["spec"].get("server", {})).checkpoint
        name = parent["metadata"]["name"]
        raise JobError(not_kept(name, given.round, there, every=kept.every_rounds, keep=kept.keep))
    placed = given.model_copy(update={"sha256": digest})
    return job.model_copy(update={"spec": job.spec.model_copy(update={"initial_model": placed})})


def _place(parent: Object, path: str) -> Object:
    """Where this file of a job's storage is."""
    if (kept := store(parent)) is not None:
        own = {name: kept[name] for name in ("uri", "secretName") if name in kept}
        return {"store": {**own, "path": path}}
    metadata = parent["metadata"]
    place = f"{metadata['name']}-{metadata['uid']}/{path}"
    return {"persistentVolumeClaim": {"claimName": claim(parent), "path": place}}
