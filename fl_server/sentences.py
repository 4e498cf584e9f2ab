"""What the server says when something is wrong with a job's workers, or with what it has kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fl_core.errors import ShortfallError
from fl_core.models import sound
from fl_core.plan import Plan
from fl_core.roster import MOST_ABSENT
from fl_core.wire import fl_pb2 as pb


def dissent(cohort: pb.Cohort) -> str:
    """Whose first model is not the job's."""
    return (
        f"the first model of {', '.join(cohort.dissenters)} is not that of the others, so that of "
        f"{cohort.workers[0]} was taken; the program draws from a random stream that the seed does not govern"
    )


def too_few(plan: Plan, live: int, *, absent: Sequence[str]) -> ShortfallError:
    """The job has not got its workers in time; `absent` are the first of those who have not come."""
    others = " and others" if len(absent) == MOST_ABSENT else ""
    missing = f" (not there: {', '.join(absent)}{others})" if absent else ""
    return ShortfallError(
        f"{live} of {plan.workers} workers were ready after {plan.ready_seconds:g} s "
        f"(spec.preRunningDeadlineSeconds), and spec.selection.minimum asks for "
        f"{plan.selection.minimum}{missing}; their logs say why, or allow more time"
    )


def selection(cohort: pb.Cohort) -> dict[str, Any]:
    """What the record says of those who were not chosen; a few by name, all of them as numbers."""
    return {
        "live": cohort.live,
        "passedOver": list(cohort.passed_over),
        "away": cohort.away,
        "absent": list(cohort.absent),
        "refused": {one.worker: one.reason for one in cohort.refused},
    }


def way_out(storage: Path) -> str:
    """What a person may do about a file of this storage that is damaged; a fork is of a checkpoint that is not."""
    newest = next((str(one.round) for one in sound(storage, after=-1)), "N")
    return (
        "put a copy of it back from a backup, with which `fl-submit run --resume` goes on, or go on in another job: "
        f"fl-submit fork RUN|JOB --from-round {newest}"
    )
