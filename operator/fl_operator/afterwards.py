"""What becomes of a job that is over: its pods go as the policy says, then itself; nothing is ever created again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Final

from fl_operator import conditions as c
from fl_operator.actions import Action, Apply, Decision, Delete, Seen
from fl_operator.cluster.resources import Object

CLEANUP_SECONDS: Final = 30
"""How long workers may take to end by themselves when the job is over."""


def afterwards(seen: Seen, now: dt.datetime) -> Decision:
    """A job that is over: its pods go as the policy says, then itself; nothing is ever created again."""
    spec, status = seen.job["spec"], seen.job["status"]
    ended = c.read_time(status["completionTime"])
    policy, wakes = spec.get("podCleanupPolicy", "Running"), []
    jobs = [child for (kind, _), child in seen.children.items() if kind == "Job"]
    jobs = [job for job in jobs if not job["metadata"].get("deletionTimestamp")]
    actions: list[Action] = []
    clean = ended + dt.timedelta(seconds=CLEANUP_SECONDS if c.holds(status["conditions"], c.COMPLETE) else 0)
    if policy != "None" and jobs:
        if now < clean:
            wakes.append(clean)
        elif policy == "All":
            actions += map(Delete, jobs)
        else:
            actions += _stops(seen, [job for job in jobs if _runs(job)])
    if (ttl := spec.get("ttlSecondsAfterFinished")) is not None:
        end = ended + dt.timedelta(seconds=ttl)
        if now >= end:
            return Decision((Delete(seen.job),))
        wakes.append(end)
    again = min(((wake - now).total_seconds() for wake in wakes), default=None)
    return Decision(tuple(actions), again=again)


def _runs(job: Object) -> bool:
    status = job.get("status", {})
    finished = any(
        one["type"] in {"Complete", "Failed"} and one["status"] == "True"
        for one in status.get("conditions", ())
    )
    return not finished and not job["spec"].get("suspend", False)


def _stops(seen: Seen, jobs: Sequence[Object]) -> list[Action]:
    """What makes the Job controller delete the pods that still run, and keep the others."""
    if seen.attempt is None:
        return [Delete(job) for job in jobs]
    running = {job["metadata"]["name"] for job in jobs}
    wanted = seen.attempt.wanted(seen.job["spec"], suspended=True)
    return [Apply(one) for one in wanted if one["kind"] == "Job" and one["metadata"]["name"] in running]
