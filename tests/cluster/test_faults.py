"""A few cells of the matrix of faults in pods, drawn from a seed; `matrix_pods.py` has them all."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from tests.cluster.matrix_pods import CELLS, Cell, Row, Tried, run
from tests.cluster.tenant import Tenant

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(600)]

SEED = 162
DRAWN = 2
"""Of each kind of job."""

ALWAYS = {
    False: Cell(Row(secure=False, role="worker-1"), "stop", "train"),
    True: Cell(Row(secure=True, role="worker-1"), "kill", "upload"),
}
"""By whether sums are secure: a worker stands still while it trains, for longer than the deadline; a worker's pod dies
while it has a part in a secure sum. It is the first fault, so that nobody is late for another reason.
"""
EVENTS = {"late": "WorkersLate", "lost": "WorkersLost"}
"""By the word for a loss; whether a worker that says nothing is late or lost is a matter of a moment."""


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "secure"])
def test_a_job_in_pods_gets_over_faults(tenant: Tenant, tmp_path: Path, *, secure: bool) -> None:
    """Each step that is drawn is disturbed: no round is lost or counted twice, each model is the undisturbed job's,
    and who was missing is told.
    """
    cells = [cell for cell in CELLS if cell.row.secure == secure]
    drawn = list(dict.fromkeys([ALWAYS[secure], *random.Random(SEED).sample(cells, DRAWN)]))
    tried = run(tenant, tmp_path, drawn)
    assert {deed.fault.step for deed in tried.steps.deeds} == {cell.step for cell in drawn}
    assert all(deed.back_after is not None for deed in tried.steps.deeds if deed.fault.step != "finish")
    if not secure:
        check_told(tenant, tried)


def check_told(tenant: Tenant, tried: Tried) -> None:
    """The worker that stood still while it trained is named by an Event, and by the story of its round."""
    name, fault = tried.plan.job.name, tried.steps.deeds[0].fault
    story = tenant.fl_submit("explain", name, "--round", str(fault.round))
    found = re.search(rf"Attempt 1 was given up: [^:]*{fault.who}[^:]*: (late|lost): ", story)
    assert found, story
    reason = EVENTS[found[1]]
    of_job = ("events", "--field-selector", f"involvedObject.kind=FLJob,reason={reason}")
    events = tenant.eventually(name, lambda: tenant.get(*of_job))
    assert any(re.search(rf"{fault.who}[^:]*: {found[1]}: ", one["message"]) for one in events), events
    assert {one["type"] for one in events} == {"Warning"}
