"""What a job's status means in sentences."""

from __future__ import annotations

from typing import Any

from job_generator.cluster.explanation import explain


def job(*conditions: tuple[str, str, str, str], state: str = "Running") -> dict[str, Any]:
    listed = [
        {"type": kind, "status": status, "reason": reason, "message": message}
        for kind, status, reason, message in conditions
    ]
    status = {"conditions": listed, "display": {"state": state}} if listed else {}
    return {"metadata": {"name": "digits"}, "spec": {"rounds": 20}, "status": status}


def test_nobody_looked() -> None:
    """A job without conditions points to the doctor."""
    assert "fl-submit doctor" in explain(job())[0]


def test_one_trouble_is_told_once() -> None:
    """Failed and Stalled with the same message are one sentence, with who must act."""
    told = explain(
        job(("Failed", "True", "ProgramError", "boom"), ("Stalled", "True", "ProgramError", "boom"))
    )
    assert [line for line in told if "boom" in line] == ["Failed (ProgramError): boom."]
    assert any(line.startswith("To do by you, the job's author: mend the program") for line in told)


def test_all_is_well() -> None:
    """A job without trouble is said to have none."""
    assert explain(job(("Ready", "True", "Quorum", "4 workers are ready")))[-1] == "Nothing is wrong with it."


def test_events() -> None:
    """Events come last, with their time."""
    note = {"lastTimestamp": "2026-01-01T10:00:00Z", "reason": "Started", "message": "created the children"}
    assert explain(job(("Ready", "True", "Quorum", "")), [note])[-1] == (
        "  2026-01-01T10:00:00  Started: created the children"
    )
