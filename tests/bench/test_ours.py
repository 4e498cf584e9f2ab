"""The runner of our own system: whole jobs with no-op workers, measured from outside."""

from __future__ import annotations

import pytest

from bench.cases import Case
from bench.memory import Limits
from bench.ours import Ours, plan_of


@pytest.mark.rounds
def test_a_tiny_case_is_measured() -> None:
    """Each round but the first has its duration, memory is counted, and all that was sent was full size."""
    result = Ours(Limits(seconds=120)).measure(Case.parse("2x0.01", rounds=3))
    assert len(result.durations) == 2
    assert min(result.durations) > 0
    assert result.peak_bytes_beyond_idle is not None
    assert result.note.startswith("mutual TLS; a checkpoint every round, ")


@pytest.mark.rounds
def test_a_job_that_dies_says_why() -> None:
    """Where the limit of time is passed there is no figure but a reason."""
    result = Ours(Limits(seconds=0.01)).measure(Case.parse("2x0.01", rounds=3))
    assert result.round_seconds is None
    assert "out of time" in result.note


def test_every_client_is_asked_and_waited_for() -> None:
    """The plan's rounds need all clients, and no round that is measured evaluates."""
    plan = plan_of(Case.parse("7x1", rounds=4))
    assert (plan.selection.asked, plan.selection.minimum, plan.workers) == (7, 7, 7)
    assert plan.evaluation_every > 4
