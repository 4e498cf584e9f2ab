"""What ends a job before its time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fl_core.plan import Plan
from fl_operator.findings import Finding


def end_of(plan: Plan, findings: Sequence[Finding], workers: Mapping[str, int]) -> tuple[str, str] | None:
    """Reason and message where the job cannot go on; `workers` is that of its status."""
    for finding in findings:
        if finding.permanent and not finding.who.startswith(("worker", "site")):
            return finding.reason, str(finding)
    there = workers["replicas"] + len(plan.sites)
    if there - workers["lost"] < (minimum := plan.selection.minimum):
        first = next((one for one in findings if one.permanent), None)
        why = f"; {first}" if first else ""
        sentence = f"{workers['lost']} of {there} workers are lost, {minimum} are needed{why}"
        return (first.reason if first else "QuorumLost"), sentence
    return None
