"""What the metrics tell of FLJobs: those that the operator looks after, and since when each is as it is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator

from fl_operator.cluster.resources import Object
from fl_operator.conditions import READY, SUSPENDED, is_ours, read_time
from fl_operator.metrics import JobState


def census(jobs: Iterable[Object]) -> Iterator[JobState]:
    """Each FLJob that no other controller manages; one that nobody has looked at yet is pending."""
    for job in filter(is_ours, jobs):
        display = (job.get("status") or {}).get("display") or {}
        state = str(display.get("state", "Pending"))
        yield JobState(job["metadata"]["namespace"], state, _waiting_since(job).timestamp())


def _waiting_since(job: Object) -> dt.datetime:
    """When a job was made, resumed, or lost its quorum, whichever came last."""
    conditions = (job.get("status") or {}).get("conditions", ())
    changes = (one["lastTransitionTime"] for one in conditions if one["type"] in {READY, SUSPENDED})
    return max(map(read_time, (job["metadata"]["creationTimestamp"], *changes)))
