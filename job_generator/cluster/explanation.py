"""What is wrong with a job, in plain sentences: what happened, who must act, and how."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from job_generator.cluster.connection import Object
from job_generator.cluster.jobs import conditions, display, holds, moment, training

OPERATOR: Final = "whoever runs the cluster"
AUTHOR: Final = "you, the job's author"
MOST_EVENTS: Final = 8
WAITING: Final = "wait"

ACTORS: Final = {
    "InvalidSpec": (AUTHOR, "mend the field that is named, and submit again"),
    "ImmutableFieldChanged": (AUTHOR, "change the field back, or submit the job under another name"),
    "NameTaken": (AUTHOR, "remove the other object, or submit the job under another name"),
    "ChildRefused": (OPERATOR, "mend the quota, policy or right that the message names"),
    "AttemptLost": (AUTHOR, "change back what was changed in the spec, or restore the object that is named"),
    "ProgramError": (
        AUTHOR,
        "mend the program, try it with `fl-submit try`, and submit it under another name",
    ),
    "Mismatch": (AUTHOR, "use the same program and images everywhere"),
    "TooFewWorkers": (
        AUTHOR,
        "lower spec.selection.minimum, or find out from the logs why workers were lost",
    ),
    "QuorumLost": (AUTHOR, "find out from the logs why workers were lost"),
    "StorageUnusable": (
        AUTHOR,
        "mend what the message names; then `fl-submit fork`, or submit again where nothing was kept yet",
    ),
    "OOMKilled": (AUTHOR, "raise the memory limit in the template"),
    "Unschedulable": (OPERATOR, "add nodes, or lower the requests in the template"),
    "PreRunningDeadlineExceeded": (
        AUTHOR,
        "mend what kept the workers away, or raise preRunningDeadlineSeconds",
    ),
    "DeadlineExceeded": (AUTHOR, "raise spec.activeDeadlineSeconds, or train fewer rounds"),
}
"""Who must act on a reason, and what to do."""


def explain(job: Object, noted: Sequence[Object] = ()) -> list[str]:
    """The sentences, most important first."""
    return [*_standing(job), *_troubles(job), *_events(noted)]


def _standing(job: Object) -> Iterator[str]:
    name, told = job["metadata"]["name"], training(job)
    if job["metadata"].get("deletionTimestamp"):
        yield f"{name} is being deleted."
    if not conditions(job):
        yield (
            f"{name} was not looked at by any operator yet. If that lasts longer than a few seconds, "
            "`fl-submit doctor` says whether one runs and watches this namespace."
        )
        return
    state = display(job)["state"]
    where = f"after round {told['round']} of {told['rounds']}"
    yield f"{name} is {state}, {where}."
    if holds(job, "Complete"):
        ended = conditions(job)["Complete"]
        yield f"It ended with {ended['reason']}: {ended.get('message') or 'nothing more was said'}."
    ready = conditions(job).get("Ready", {})
    if state in {"Starting", "Running"} and ready.get("message"):
        yield f"Workers: {ready['message']}."


def _troubles(job: Object) -> Iterator[str]:
    """The conditions that say trouble; one that repeats another's message is left out."""
    told: set[str] = set()
    for kind, bad in (("Failed", "True"), ("Compiled", "False"), ("Stalled", "True"), ("Degraded", "True")):
        one = conditions(job).get(kind, {})
        message = str(one.get("message", ""))
        if one.get("status") != bad or message in told:
            continue
        told.add(message)
        yield f"{kind if bad == 'True' else f'Not {kind.lower()}'} ({one['reason']}): {message}."
        if one["reason"] in ACTORS:
            who, what = ACTORS[one["reason"]]
            yield f"To do by {who}: {what}."
    if holds(job, "Suspended"):
        yield f"It is suspended and has no pods. To go on: fl-submit resume {job['metadata']['name']}"
    elif not told and conditions(job) and not holds(job, "Complete"):
        yield "Nothing is wrong with it."


def _events(noted: Sequence[Object]) -> Iterator[str]:
    if noted:
        yield "Events, oldest first:"
    for event in noted[-MOST_EVENTS:]:
        text = event.get("message") or event.get("note") or ""
        yield f"  {moment(event)[:19]}  {event.get('reason', '')}: {text}"
