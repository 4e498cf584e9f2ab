"""What a user may change in a job that is there: stop it, hold it, let it go on, delete it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from fl_core.errors import FLJobError, JobError, RetryError
from job_generator.cluster.connection import AbsentError, Cluster, Object
from job_generator.cluster.jobs import (
    change,
    claim,
    core,
    display,
    exit_code,
    fljobs,
    holds,
    read,
    remove,
    store,
    training,
    typed,
)

KEEPER: Final = "fljob.dev/keep-storage"
"""A finalizer that holds a job back until its claim is its no more."""
EARLY: Final = "templates, if they were changed meanwhile, may not be taken over"


def suspend(cluster: Cluster, name: str, *, hold: bool) -> str:
    """Hold a job, or let it go on; says what happens now, or how another one goes on from a job that failed."""
    job = _going(cluster, name, way_on=None if hold else _fork)
    if job["spec"].get("suspend", False) == hold:
        return f"{name} is {'suspended' if hold else 'not suspended'} already"
    change(cluster, fljobs(cluster.namespace, name), {"spec": {"suspend": hold}})
    if not hold:
        early = "" if holds(job, "Suspended") else f"; it was not Suspended yet, so {EARLY}"
        return f"{name} goes on{early}"
    grace = job["spec"].get("suspendGraceSeconds", 30)
    return f"{name} will have no pods; an open round has {grace} s to end, else it is begun again later"


def scale(cluster: Cluster, name: str, workers: int) -> str:
    """Let a job have so many workers beside its sites, as `kubectl scale` does; says what happens now."""
    job = _going(cluster, name)
    if job["spec"]["workers"]["replicas"] == workers:
        return f"{name} has {workers} workers already"
    change(cluster, f"{fljobs(cluster.namespace, name)}/scale", {"spec": {"replicas": workers}})
    return f"{name} will have {workers} workers: who comes takes part in the next round, and who goes is no fault"


def stop(cluster: Cluster, name: str) -> str:
    """End a job with the round that is open, so that a final model is written; says what happens now.

    The status is some seconds old, and nobody may have heard of rounds that are shorter.
    """
    job = _going(cluster, name)
    behind = (job["spec"].get("initialModel") or {}).get("round") or 0
    last = max(training(job)["round"], behind) + 1  # nobody may have reported of a fork yet
    if job["spec"]["rounds"] <= last:
        return f"{name} ends with round {job['spec']['rounds']} already"
    change(cluster, fljobs(cluster.namespace, name), {"spec": {"rounds": last}})
    return f"{name} ends with round {last}, or a later one if that is open already, and writes its model"


def delete(cluster: Cluster, name: str, *, keep_storage: bool) -> str:
    """Delete a job and what belongs to it; says what becomes of its storage."""
    job = read(cluster, name)
    if (kept_in := store(job)) is not None:
        remove(cluster, fljobs(cluster.namespace, name))
        return f"fljob/{name} is deleted; its storage is kept in {kept_in['uri']}"
    storage, kept = claim(job), _retained(job) or keep_storage
    if keep_storage and not _retained(job):
        _delete_but_storage(cluster, job)
    else:
        remove(cluster, fljobs(cluster.namespace, name))
    told = f"fljob/{name} is deleted"
    if not kept:
        return f"{told}, and with it persistentvolumeclaim/{storage}"
    again = f"kubectl delete persistentvolumeclaim {storage} -n {cluster.namespace}"
    return (
        f"{told}; its storage is kept as persistentvolumeclaim/{storage}; when you need it no more: {again}"
    )


def _going(cluster: Cluster, name: str, *, way_on: Callable[[Object], str] | None = None) -> Object:
    job = read(cluster, name)
    if exit_code(job) is not None and (state := display(job)["state"]) in {"Complete", "Failed"}:
        more = f"; {way_on(job)}" if way_on and state == "Failed" else ""
        raise JobError(f"{name} is {state}; a job that is over does not change{more}")
    return job


def _fork(job: Object) -> str:
    """How a new job goes on from the last checkpoint of one that failed, by what its status and its spec say."""
    name, kept, spec = job["metadata"]["name"], _kept_round(job), job["spec"]
    if kept <= ((spec.get("initialModel") or {}).get("round") or 0):
        return "it has kept no round: once what ended it is mended, submit it again under another name"
    place = store(job)
    own = f" --set server.storage.uri={place['uri']}-2" if place is not None else ""
    return (
        f"once what ended it is mended, a new job goes on from its last checkpoint, of round {kept} unless that was "
        f"skipped: fl-submit fork {name} --from-round {kept} --name {name}-2{own}"
    )


def _kept_round(job: Object) -> int:
    """The last round that may have a checkpoint: with secure sums any that was not skipped, else each `everyRounds`."""
    of, done = typed(job), int(training(job)["round"])
    return done if of.secure else done - done % of.spec.server.checkpoint.every_rounds


def _retained(job: Object) -> bool:
    storage = job["spec"].get("server", {}).get("storage", {})
    return "existingClaim" in storage or storage.get("onDelete", "Retain") == "Retain"


def _delete_but_storage(cluster: Cluster, job: Object) -> None:
    """Everything is tried before anything is done; what breaks off then goes on when it is asked for again."""
    name, finalizers = job["metadata"]["name"], _of_others(job)
    _leave_storage(cluster, job, dry_run=True)
    try:
        _leave_storage(cluster, job)
        change(cluster, fljobs(cluster.namespace, name), {"metadata": {"finalizers": finalizers}})
    except (FLJobError, KeyboardInterrupt) as error:
        raise RetryError(
            f"fljob/{name} is not deleted yet ({str(error) or 'interrupted'}): the finalizer {KEEPER} may hold it, "
            "with its pods, until its storage is free of it; the same command goes on"
        ) from error


def _leave_storage(cluster: Cluster, job: Object, *, dry_run: bool = False) -> None:
    """While the job is held back the operator leaves it alone, and nothing of it is collected yet."""
    path = fljobs(cluster.namespace, job["metadata"]["name"])
    held = {"metadata": {"finalizers": [*_of_others(job), KEEPER]}}
    change(cluster, path, held, dry_run=dry_run)
    remove(cluster, path, policy="Background", dry_run=dry_run)
    place = core(cluster.namespace, "persistentvolumeclaims", claim(job))
    with suppress(AbsentError):  # it never had pods, so there is nothing to keep
        change(cluster, place, {"metadata": {"ownerReferences": None}}, dry_run=dry_run)


def _of_others(job: Object) -> list[str]:
    return [one for one in job["metadata"].get("finalizers", ()) if one != KEEPER]
