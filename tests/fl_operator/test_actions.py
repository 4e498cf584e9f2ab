"""What is done at once, and what waits for what."""

from __future__ import annotations

from typing import Any

from fl_operator.actions import Apply, Create, Delete, Finish, steps
from fl_operator.attempt import SPEC_DIGEST


def thing(kind: str, name: str = "one", **annotations: str) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name, "annotations": annotations}}


def test_what_is_needed_comes_first() -> None:
    """The attempt is kept alone, then comes what pods need, then what has pods; none is left out."""
    attempt = Create(thing("ConfigMap", "attempt", **{SPEC_DIGEST: "d"}))
    mounted = [Create(thing("ConfigMap")), Apply(thing("NetworkPolicy"))]
    running = [Create(thing("Job")), Apply(thing("Job", "other")), Delete(thing("Job", "old")), Finish(8)]
    assert list(steps([*running, *mounted, attempt])) == [[attempt], mounted, running]
    assert list(steps([])) == []


def test_many_are_not_done_all_at_once() -> None:
    """A job of many sites asks the API server for a few things at a time."""
    jobs = [Create(thing("Job", str(number))) for number in range(5)]
    assert list(steps(jobs, most=2)) == [jobs[:2], jobs[2:4], jobs[4:]]
