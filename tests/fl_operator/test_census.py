"""Which FLJobs are counted, and since when they wait."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from fl_operator.census import census
from fl_operator.metrics import JobState

Map = dict[str, Any]

MADE = "2026-01-01T12:00:00Z"


def job(*conditions: tuple[str, str, str], state: str = "", **spec: Any) -> Map:
    """An FLJob with these conditions: type, status, and when it last changed."""
    told = [
        {"type": kind, "status": status, "lastTransitionTime": f"2026-01-01T{time}Z"}
        for kind, status, time in conditions
    ]
    status = {"status": {"conditions": told, "display": {"state": state}}} if state else {}
    return {"metadata": {"namespace": "lab", "creationTimestamp": MADE}, "spec": spec, **status}


def at(time: str) -> float:
    return dt.datetime.fromisoformat(f"2026-01-01T{time}Z").timestamp()


@pytest.mark.parametrize(
    ("one", "state", "since"),
    [
        (job(), "Pending", "12:00:00"),
        (
            job(("Suspended", "False", "12:00:01"), ("Ready", "False", "12:00:01"), state="Starting"),
            "Starting",
            "12:00:01",
        ),
        (
            job(("Suspended", "False", "15:00:00"), ("Ready", "False", "13:00:00"), state="Starting"),
            "Starting",
            "15:00:00",
        ),
        (
            job(("Suspended", "False", "12:00:01"), ("Ready", "False", "18:00:00"), state="Starting"),
            "Starting",
            "18:00:00",
        ),
    ],
    ids=["new", "never ready", "resumed", "its quorum lost"],
)
def test_since_when_a_job_waits(one: Map, state: str, since: str) -> None:
    """A job waits since it was made, since it was resumed, or since it lost its quorum, whichever came last."""
    assert list(census([one])) == [JobState("lab", state, at(since))]


def test_a_job_of_another_controller_is_not_counted() -> None:
    """A job that `managedBy` leaves to somebody else is never pending here; one that names this operator is."""
    assert list(census([job(managedBy="example.org/queue")])) == []
    assert [one.state for one in census([job(managedBy="fljob.dev/operator")])] == ["Pending"]
