"""A worker that has nothing to hand in is told of once, with its reason and where to look."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fl_core.plan import Plan
from job_generator.local.losses import Losses
from job_generator.local.observer import Observation, Standing
from job_generator.local.record import ClosedRound


def test_each_worker_is_told_of_once(a_plan: Callable[..., Plan]) -> None:
    """In the open round or a closed one; who is gone is the supervisor's to tell; no name is doubled."""
    losses = Losses(Path("/a run"), a_plan())
    late = Observation(
        Standing(2, dropped={"worker-1": "deadline", "worker-2": "gone", "worker-3": "the program raised"})
    )
    nan = ClosedRound(round=2, dropouts={"worker-0": "worker-0's update: NaN.", "worker-1": "deadline"})
    first, again = [*losses.news(late)], [*losses.news(Observation(Standing(3), (nan,)))]
    assert [sentence.partition(": ")[0] for sentence in (*first, *again)] == [
        "Without worker-1 in round 2",
        "Without worker-0 in round 2",
    ]
    assert "worker-1 in round 2: late: nothing whole had come after" in first[0]
    assert again[0].endswith("worker-0's update: NaN. Its log: fl-submit logs '/a run' --role worker-0")
    assert not [*losses.news(Observation(Standing(3), (nan,)))]
