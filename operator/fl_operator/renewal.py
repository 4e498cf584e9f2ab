"""A Job of one pod that was lost again and again is made anew.

The Job controller waits before each next pod, twice as long every time, from 10 s up to 10 minutes, and counts the
losses of a whole life: months after the first ones, too. A new Job begins without them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Final

from fl_operator import conditions as c
from fl_operator.actions import Note
from fl_operator.cluster.resources import Object
from fl_operator.findings import is_final, pods_of
from job_generator.names import ROLE

ALONE: Final = frozenset({"server", "scheduler"})
"""The roles of which there is one pod."""
MOST_LOSSES: Final = 3
"""After so many the next pod would be waited for for 40 s, then for 80."""
AT_ONCE: Final = dt.timedelta(seconds=10)
"""Within so long a Job that is let go has its first pod, whatever it lost before."""


def renewal(job: Object, pods: Iterable[Object]) -> Note | None:
    """An event where a Job has to be made anew, else None."""
    if not _waits_too_long(job, pods):
        return None
    lost = job["status"]["failed"]
    return Note(
        "Renewed",
        f"Job {job['metadata']['name']} lost {lost} pods; it is made anew, so that the next comes soon",
    )


def pod_due(status: Object, now: dt.datetime) -> dt.datetime:
    """Until when it is no loss that a job which was started, or resumed, has no pod."""
    started = status.get("startTime")
    return (c.read_time(started) if started else now) + AT_ONCE


def _waits_too_long(job: Object, pods: Iterable[Object]) -> bool:
    """Whether the next pod of a Job would come late: each that is there failed, and none is still on its way out,
    for which the end of the Job would have to wait, too. One that ended for good ends the job.
    """
    role, status = job["metadata"].get("labels", {}).get(ROLE), job.get("status", {})
    if role not in ALONE or job["spec"].get("suspend") or status.get("succeeded"):
        return False
    return status.get("failed", 0) >= MOST_LOSSES and all(map(_is_lost, pods_of(pods, role)))


def _is_lost(pod: Object) -> bool:
    is_over = pod.get("status", {}).get("phase") == "Failed" and not pod["metadata"].get("deletionTimestamp")
    return is_over and not is_final(pod)
