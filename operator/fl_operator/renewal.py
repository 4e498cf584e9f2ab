"""A Job of one pod that was lost again and again is made anew.

The Job controller waits before each next pod, twice as long every time, from 10 s up to 10 minutes, and counts the
losses of a whole life: months after the first ones, too. A new Job begins without them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fl_operator.actions import Note
from fl_operator.cluster.resources import Object
from fl_operator.findings import pods_of
from job_generator.names import ROLE

ALONE: Final = frozenset({"server", "scheduler"})
"""The roles of which there is one pod."""
MOST_LOSSES: Final = 3
"""After so many the next pod would be waited for for 40 s, then for 80."""


def renewal(job: Object, pods: Iterable[Object]) -> Note | None:
    """An event where a Job has to be made anew, else None."""
    if not _waits_too_long(job, pods):
        return None
    lost = job["status"]["failed"]
    return Note(
        "Renewed",
        f"Job {job['metadata']['name']} lost {lost} pods; it is made anew, so that the next comes soon",
    )


def _waits_too_long(job: Object, pods: Iterable[Object]) -> bool:
    """Whether the next pod of a Job would come late: the last one failed, and none is still on its way out, for
    which the end of the Job would have to wait, too. Where none is seen, as after a resume, the next is being made.
    """
    role, status = job["metadata"].get("labels", {}).get(ROLE), job.get("status", {})
    if role not in ALONE or job["spec"].get("suspend") or status.get("succeeded"):
        return False
    own = pods_of(pods, role)
    return status.get("failed", 0) >= MOST_LOSSES and bool(own) and all(map(_is_lost, own))


def _is_lost(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") == "Failed" and not pod["metadata"].get("deletionTimestamp")
