"""A few cells of the matrix of faults in pods, drawn from a seed; `matrix_pods.py` has them all."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from tests.cluster.matrix_pods import CELLS, FIRST, Cell, Row, run
from tests.cluster.steps import Fault, Steps
from tests.cluster.tenant import Tenant

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(600)]

SEED = 162
DRAWN = 2
"""Of each kind of job."""

PLAIN, SECURE = (Row(secure=secure, role="worker-1") for secure in (False, True))
ALWAYS = {
    False: [Cell(PLAIN, "stop", "train"), Cell(PLAIN, "lose", "train"), Cell(PLAIN, "corrupt", "upload")],
    True: [Cell(SECURE, "kill", "upload")],
}
"""By whether sums are secure: a worker stands still while it trains, for longer than the deadline; its container dies
and is back late; its update does not arrive as it was sent. A worker's container dies while it has a part in a secure
sum. They are the first faults, so that nobody is late for another reason.
"""
TOLD = {
    "stop": {"late": "WorkersLate", "lost": "WorkersLost"},
    "lose": {"lost": "WorkersLost"},
    "corrupt": {"refused": "UpdatesRefused"},
}
"""By what was done the words for the loss and their Events; whether a worker that says nothing is late or lost is a
matter of a moment.
"""


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "secure"])
def test_a_job_in_pods_gets_over_faults(tenant: Tenant, tmp_path: Path, *, secure: bool) -> None:
    """Each step that is drawn is disturbed: no round is lost or counted twice, each model is the undisturbed job's,
    and who was missing is told.
    """
    cells = [cell for cell in CELLS if cell.row.secure == secure]
    drawn = list(dict.fromkeys([*ALWAYS[secure], *random.Random(SEED).sample(cells, DRAWN)]))

    def look(steps: Steps) -> None:
        """The operator hears of the faults that it is to tell before it, or who tells it, is disturbed itself."""
        gate = steps.gate(FIRST + len(TOLD))
        if secure or tenant.get(*events_of("UpdatesRefused")):
            gate.set()

    tried = run(tenant, tmp_path, drawn, look=look)
    assert {deed.fault.step for deed in tried.steps.deeds} == {cell.step for cell in drawn}
    assert all(deed.back_after is not None for deed in tried.steps.deeds if deed.fault.step != "finish")
    if not secure:
        for deed in tried.steps.deeds[: len(TOLD)]:
            check_told(tenant, tried.plan.job.name, deed.fault)


def events_of(reason: str) -> tuple[str, ...]:
    """The words with which the API server is asked for Events about FLJobs."""
    return "events", "--field-selector", f"involvedObject.kind=FLJob,reason={reason}"


def check_told(tenant: Tenant, name: str, fault: Fault) -> None:
    """The worker that an attempt was given up for is named by an Event, and by the story of its round."""
    words = "|".join(TOLD[fault.fault])
    story = tenant.fl_submit("explain", name, "--round", str(fault.round))
    found = re.search(rf"Attempt 1 was given up: [^:]*{fault.who}[^:]*: ({words}): ", story)
    assert found, story
    reason = TOLD[fault.fault][found[1]]
    events = tenant.eventually(name, lambda: tenant.get(*events_of(reason)))
    assert any(re.search(rf"{fault.who}[^:]*: {found[1]}: ", one["message"]) for one in events), events
    assert {one["type"] for one in events} == {"Warning"}
